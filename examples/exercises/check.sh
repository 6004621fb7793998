#!/bin/sh
# check.sh - builds and checks the exercises.
#
#     check.sh                what the solutions print, then how far the exercises are
#     check.sh FILE...        these alone (`make exercises E=name` gives one)
#
# CC: the compiler. FLAGS: -O1, for it. ROUNDS: "1 2", how often each runs; LIMIT: 20 s; SLOW: set, do not mind slowness;
# QUICK: set, leave out what tests need not see again; KEEP, NEWEST: a folder for the programs, which are built again
# if that file, or their own, is newer. A file that still says "not solved yet" is to do, and no failure.
# What lies in a folder `mend` is run by the explorer, under every schedule up to two preemptions, and must not fail.
# The last line is `N passed, N failed`.
set -u
CC=${CC:-cc}
here=$(cd "$(dirname "$0")" && pwd) || exit 1
root=$(cd "$here/../.." && pwd) || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

squares='[0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144, 169, 196, 225, 256, 289, 324, 361]'

# What has to be printed: lines in any order, then lines in just this one. Times are in ms.
expect() {  # name
    case $1 in
    fan_out_fan_in*)
        least=0 most=5000
        cat >"$work/any" <<END
n=1000: 332833500
n=2000: 2664667000
n=3000: 8995500500
n=4000: 21325334000
n=5000: 41654167500
n=6000: 71982001000
n=7000: 114308834500
n=8000: 170634668000
n=9000: 242959501500
n=10000: 333283335000
END
        printf '\nAggregate total: 1008140842500\n' >"$work/then" ;;
    progress_tracker*)
        least=400 most=1500
        : >"$work/any"
        for k in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            printf 'Progress: %d/20 (%d%%)\n' $k $((k * 5))
        done >"$work/then"
        echo "Results: $squares" >>"$work/then" ;;
    producer_consumer*)
        least=1000 most=1900
        for k in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
            echo "Consumer-X processed $k -> $((k * k))"
        done >"$work/any"
        printf '\nSorted results: %s\n' "$squares" >"$work/then"
        case $1 in *_one_marker) # shows what breaks
            least=2000 most=2900
            printf '\nConsumer-X still waits: the deadline passed\n' >"$work/then" ;;
        esac ;;
    parallel_map*)
        least=0 most=5000
        : >"$work/any"
        echo '17984 primes, the last is 199999' >"$work/then" ;;
    pipeline*)
        least=80 most=600
        : >"$work/any"
        for k in 1 2 4 5 7 8 10 11 13 14 16 17 19 20 22 23 25 26 28 29 31 32 34 35 37 38 40; do
            echo "$k -> $((k * k))"
        done >"$work/then" ;;
    worker_pool*)
        least=150 most=1000
        : >"$work/any"
        printf '0: 0\n1: 10\n2: 20\n3: failed with 33\n4: TWILL_TIMEOUT\n5: 50\n' >"$work/then" ;;
    timeout_fallback*)
        least=2000 most=2600
        : >"$work/any"
        printf 'price 105\nprice 100, which is old: TWILL_TIMEOUT\n1 still runs\nnone any more\n' >"$work/then" ;;
    rate_limiter*)
        least=500 most=750
        : >"$work/any"
        printf '8 calls\nin the game: 0 0 0 100 200 300 400 500\n' >"$work/then" ;;
    retry_backoff*)
        least=60 most=1000
        : >"$work/any"
        printf '503, again in 20 ms\n503, again in 40 ms\npage 1: TWILL_OK after 3 calls\npage 2: TWILL_FAILED with 404 after 1 calls\n' >"$work/then" ;;
    batch_processing*)
        least=40 most=1000
        : >"$work/any"
        printf 'inserted 249 in 3 calls\nrow 77 failed with 5\n' >"$work/then" ;;
    graceful_shutdown*)
        least=0 most=1000
        : >"$work/any"
        printf 'worked 5 rounds\nlistener closed\nlog closed\nsignal 15, nobody is stuck\n' >"$work/then" ;;
    resource_pool*)
        least=200 most=1000
        : >"$work/any"
        printf '11 answered, question 5 failed with 7\n0 opened too many, 0 not closed\n' >"$work/then" ;;
    *) return 1 ;;
    esac
}

now() { date +%s%N | sed 's/N$/000000000/' | cut -c 1-13; }

# fresh FILE: $program was kept, and is newer than what it is made of
fresh() { [ -n "${KEEP:-}" ] && [ "$program" -nt "$1" ] && [ "$program" -nt "$NEWEST" ]; }

# check FILE NAME: "" if all is well, else what is wrong
check() {
    program=${KEEP:-$work}/$2
    fresh "$1" || $CC -std=c11 -Wall -Wextra -Wpedantic -Werror ${FLAGS:--O1} -pthread -I"$root/patterns" -o "$program" "$1" \
        >"$work/log" 2>&1 || { echo "it does not compile:"; head -n 12 "$work/log"; return; }
    for round in ${ROUNDS:-1 2}; do
        since=$(now)
        timeout "${LIMIT:-20}" "$program" >"$work/raw" 2>"$work/log"
        status=$?
        took=$(($(now) - since))
        [ $status -ne 124 ] || { echo "it does not end: who waits for whom?"; return; }
        [ $status -eq 0 ] || { echo "it ends with status $status"; head -n 5 "$work/log"; return; }
        tr '\r' '\n' <"$work/raw" | sed -e 's/^Consumer-[AB] /Consumer-X /' >"$work/out"
        [ -s "$work/any" ] || sed -i -e '1{/^$/d;}' "$work/out"
        lines=$(($(wc -l <"$work/any")))
        head -n "$lines" "$work/out" | sort >"$work/first"
        sort "$work/any" >"$work/wanted"
        cmp -s "$work/wanted" "$work/first" || { # what both have is left out: it is right
            echo "the first $lines lines are not these, in any order; there is no"
            comm -23 "$work/wanted" "$work/first" | head -n 3
            echo "but there is"
            comm -13 "$work/wanted" "$work/first" | head -n 3
            return; }
        tail -n +$((lines + 1)) "$work/out" >"$work/rest"
        cmp -s "$work/then" "$work/rest" || {
            from=$(diff "$work/then" "$work/rest" | sed -n '1s/[^0-9].*//p')
            [ "$from" -gt 0 ] || from=1
            echo "then must come:"
            tail -n "+$from" "$work/then" | head -n 3
            echo "but there comes:"
            tail -n "+$from" "$work/rest" | head -n 3
            return; }
        [ "$took" -ge $least ] || { echo "it took $took ms: with all its sleeps it takes $least"; return; }
    done
    [ "$took" -le $most ] || [ -n "${SLOW:-}" ] || echo "it took $took ms: does everything run at once that may?"
}

# mended FILE NAME: the same for a program that the explorer (tests/explore) has to be content with
mended() {
    program=${KEEP:-$work}/${2#mend/}
    if [ -z "${QUICK:-}" ]; then # that it is a C program, too
        $CC -std=c11 -Wall -Wextra -Wpedantic -Werror -O1 -pthread -o "$program" "$1" >"$work/log" 2>&1 ||
            { echo "it does not compile:"; head -n 12 "$work/log"; return; }
    fi
    fresh "$1" || "$explore" -std=c11 -Wall -Wextra -Werror -o "$program" "$1" >"$work/log" 2>&1 ||
        { echo "it does not compile for the explorer:"; head -n 12 "$work/log"; return; }
    for search in '--strategy=exhaustive --preemptions=2' '--spurious --schedules=2000'; do
        # shellcheck disable=SC2086 # options
        timeout $((3 * ${LIMIT:-20})) "$program" $search --seconds="${LIMIT:-20}" >"$work/out" 2>&1
        case $? in
        0) ;;
        1)
            echo "a schedule goes wrong:"
            grep -v -e '^$' -e '^Schedule ' -e EXHAUSTED -e ' schedules, ' "$work/out" | head -n 60
            echo "(tests/explore/explore-cc -o a.out $1 && ./a.out $search --svg=a.svg draws it)"
            return ;;
        *) echo "the explorer stops:"; tail -n 4 "$work/out"; return ;;
        esac
        ! grep -q 'NOT EXHAUSTED' "$work/out" || { echo "it has too many schedules to be searched"; return; }
    done
}

# explorer: is it to be had? It is built by the first one who asks.
explorer() {
    explore=$root/tests/explore/explore-cc
    export CC EXPLORE_BUILD="${EXPLORE_BUILD:-$root/build/explore}"
    "$explore" >"$work/log" 2>&1
}

# one FILE: a line for it
one() {
    name=$(basename "$1" .c)
    case $1 in
    mend/* | */mend/*)
        name=mend/$name
        if grep -q 'not solved yet' "$1"; then
            echo "$name: to do"
        elif ! explorer; then
            echo "$name: not checked: the explorer does not build here"
        else
            wrong=$(mended "$1" "$name")
            said "$wrong"
        fi
        return ;;
    esac
    expect "$name" || { echo "$1: no such exercise"; failed=$((failed + 1)); return; }
    if grep -q 'not solved yet' "$1"; then
        echo "$name: to do"
        return
    fi
    wrong=$(check "$1" "$name")
    said "$wrong"
}

# said WHAT IS WRONG: about $name
said() {
    if [ -z "$1" ]; then
        echo "$name: solved"
        passed=$((passed + 1))
    else
        echo "$name: $1"
        failed=$((failed + 1))
    fi
}

if [ $# -gt 0 ]; then
    for file; do one "$file"; done
else
    echo "solutions:"
    for file in "$here"/solutions/*.c "$here"/solutions/mend/*.c; do one "$file"; done
    echo "exercises:"
    for file in "$here"/mend/*.c "$here"/*.c; do one "$file"; done
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
