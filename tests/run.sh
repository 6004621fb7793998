#!/bin/sh
# run.sh - runs test programs and sums what they count. A test program is anything that ends with the line
# `N passed, N failed` (`, N skipped`). No such line, a bad exit status or no end is one failure more.
#
#   run.sh LOG_DIR PROGRAM...   one line a program, the output of those that failed, the sum
#   run.sh --sum TOTALS_FILE    only the sum of earlier runs
#
# What is said is in the order of the list. TEST_JOBS=n: so many at once (two a processor, as many tests mostly
# sleep). TEST_LIMIT: seconds for one program (1200).
# TEST_ARGS: options for compiled programs. TOTALS: a file to which the counts are added.
# SECOND_LOOK=n: where nothing but checks failed, these tests run n times more when all else has ended. One that now
# always passes is unsteady: it counts as skipped, and is told. What a sanitizer, a signal or a limit ended has failed.
set -u

sum() {  # of "passed failed skipped" lines; status 0 only if something passed and nothing failed
    awk '{ passed += $1; failed += $2; skipped += $3 }
         END { printf "%d passed, %d failed", passed, failed
               if (skipped) printf ", %d skipped", skipped
               printf "\n"
               exit failed > 0 || passed == 0 }' "$1"
}

name_of() {  # program: sets $name
    name=${1#"$BUILD"/}
    name=${name#tests/}
    name=${name%/check.sh}
    while case $name in */*) ;; *) false ;; esac do name=${name%%/*}_${name#*/}; done
}

one() {  # logs program
    name_of "$2"
    log=$1/$name.log
    begin=$(date +%s)
    if [ ! -f "$2" ]; then
        echo "it did not build" >"$log"
        false
    else
        case $2 in
        *.sh) timeout -k 5 "${TEST_LIMIT:-1200}" sh "$2" ;;
        *) timeout -k 5 "${TEST_LIMIT:-1200}" "$2" ${TEST_ARGS:-} ;;
        esac >"$log" 2>&1 </dev/null
    fi
    status=$?
    counts=$(sed -n '$s/^\([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)\{0,1\}$/\1 \2 \4/p' "$log")
    [ -n "$counts" ] || { counts="0 0 0"; echo "no count at the end" >>"$log"; }
    set -- "$1" "$2" $counts
    passed=$3 failed=$4 skipped=${5:-0}
    if [ $status -ne 0 ] && [ "$failed" -eq 0 ]; then
        failed=1
        [ $status -eq 124 ] && echo "no end after ${TEST_LIMIT:-1200} s" >>"$log"
        echo "exit status $status" >>"$log"
    fi
    {
        [ "$failed" -eq 0 ] || sed -e 's/^/    /' "$log" | tail -n 60
        printf '%-34s %4d passed, %d failed' "$name" "$passed" "$failed"
        [ "$skipped" -eq 0 ] || printf ', %d skipped' "$skipped"
        printf '  (%d s)\n' $(($(date +%s) - begin))
        [ "$skipped" -eq 0 ] || sed -n 's/^SKIP/    skipped:/p' "$log"
    } >"$1/$name.said"
    echo "$passed $failed $skipped" >"$1/$name.count"  # last: it is waited for
}

# Says what each program gave, in the order of the list, as soon as it and those before it have ended.
say() {  # logs program...
    logs=$1
    shift
    for program; do
        name_of "$program"
        until [ -f "$logs/$name.count" ]; do
            [ ! -f "$logs/all" ] && kill -0 $$ 2>/dev/null || break
            sleep 0.5
        done
        [ ! -f "$logs/$name.count" ] || cat "$logs/$name.said"
    done
}

# Whether a log tells of failed checks alone, each with its way to run it again.
only_checks() {
    ! grep -Eq 'Sanitizer|runtime error:|: failed: (no end|killed by|exit|a check after|no check ran)|^no (end|count)' "$1" &&
        grep -q '^ *again with: -s [0-9]* [a-z]' "$1"
}

look_again() {  # logs program
    name_of "$2"
    log=$1/$name.log
    case $2 in *.sh) return ;; esac
    read -r passed failed skipped <"$1/$name.count"
    [ "$failed" -gt 0 ] && only_checks "$log" || return
    sed -n 's/^ *again with: -s \([0-9]*\) \([a-z0-9_]*\)$/\1 \2/p' "$log" >"$log.again"
    [ "$(wc -l <"$log.again")" -eq "$failed" ] || return
    while read -r seed test; do
        timeout -k 5 "${TEST_LIMIT:-1200}" "$2" -s "$seed" -r "$SECOND_LOOK" "$test" >"$log.second" 2>&1 </dev/null &&
            failed=$((failed - 1)) skipped=$((skipped + 1)) &&
            echo "    UNSTEADY $name: $test failed among the others, and then passed $SECOND_LOOK times alone"
    done <"$log.again"
    echo "$passed $failed $skipped" >"$1/$name.count"
}

case $1 in
--sum)
    sum "$2"
    exit ;;
--one)
    one "$2" "$3"
    exit 0 ;;
esac

logs=$1
shift
[ $# -gt 0 ] || { echo "run.sh: no test program" >&2; exit 1; }
: "${BUILD:=build}"
export BUILD
mkdir -p "$logs"
rm -f "$logs"/*.count "$logs/all"
cpus=${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)}
say "$logs" "$@" &
printf '%s\n' "$@" | xargs -n 1 -P "${TEST_JOBS:-$((2 * cpus))}" sh "$0" --one "$logs"
: >"$logs/all"
wait
[ "$(ls "$logs" | grep -c '\.count$')" -eq $# ] || echo "0 1 0" >"$logs/lost.count"
[ -z "${SECOND_LOOK:-}" ] || for program; do look_again "$logs" "$program"; done
cat "$logs"/*.count >"$logs/counts"
[ -z "${TOTALS:-}" ] || cat "$logs/counts" >>"$TOTALS"
sum "$logs/counts"
