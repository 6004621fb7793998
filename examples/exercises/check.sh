#!/bin/sh
# check.sh - builds and checks the exercises.
#
#     check.sh                what the solutions print, then how far the exercises are
#     check.sh FILE...        these alone (`make exercises E=name` gives one)
#
# CC: the compiler. FLAGS: -O1, for it. ROUNDS: "1 2", how often each runs; LIMIT: 20 s; SLOW: set, do not mind slowness. A file that still says "not solved yet" is to do, and no failure. The last line is
# `N passed, N failed`.
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
    *) return 1 ;;
    esac
}

now() { date +%s%N | sed 's/N$/000000000/' | cut -c 1-13; }

# check FILE NAME: "" if all is well, else what is wrong
check() {
    $CC -std=c11 -Wall -Wextra -Wpedantic -Werror ${FLAGS:--O1} -pthread -I"$root/patterns" -o "$work/program" "$1" \
        >"$work/log" 2>&1 || { echo "it does not compile:"; head -n 12 "$work/log"; return; }
    for round in ${ROUNDS:-1 2}; do
        since=$(now)
        timeout "${LIMIT:-20}" "$work/program" >"$work/raw" 2>"$work/log"
        status=$?
        took=$(($(now) - since))
        [ $status -ne 124 ] || { echo "it does not end: who waits for whom?"; return; }
        [ $status -eq 0 ] || { echo "it ends with status $status"; head -n 5 "$work/log"; return; }
        tr '\r' '\n' <"$work/raw" | sed -e 's/^Consumer-[AB] /Consumer-X /' >"$work/out"
        [ -s "$work/any" ] || sed -i -e '1{/^$/d;}' "$work/out"
        lines=$(($(wc -l <"$work/any")))
        head -n "$lines" "$work/out" | sort >"$work/first"
        sort "$work/any" | cmp -s - "$work/first" ||
            { echo "the first $lines lines are not these, in any order:"; head -n 3 "$work/any"; echo ...; return; }
        tail -n +$((lines + 1)) "$work/out" | cmp -s "$work/then" - ||
            { echo "then must come:"; head -n 3 "$work/then"; echo "but there comes:"; tail -n +$((lines + 1)) "$work/out" | head -n 3; return; }
        [ "$took" -ge $least ] || { echo "it took $took ms: with all its sleeps it takes $least"; return; }
    done
    [ "$took" -le $most ] || [ -n "${SLOW:-}" ] || echo "it took $took ms: does everything run at once that may?"
}

# one FILE: a line for it
one() {
    name=$(basename "$1" .c)
    expect "$name" || { echo "$1: no such exercise"; failed=$((failed + 1)); return; }
    if grep -q 'not solved yet' "$1"; then
        echo "$name: to do"
        return
    fi
    wrong=$(check "$1" "$name")
    if [ -z "$wrong" ]; then
        echo "$name: solved"
        passed=$((passed + 1))
    else
        echo "$name: $wrong"
        failed=$((failed + 1))
    fi
}

if [ $# -gt 0 ]; then
    for file; do one "$file"; done
else
    echo "solutions:"
    for file in "$here"/solutions/*.c; do one "$file"; done
    echo "exercises:"
    for file in "$here"/*.c; do one "$file"; done
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
