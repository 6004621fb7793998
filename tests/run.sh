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
set -u

sum() {  # of "passed failed skipped" lines; status 0 only if something passed and nothing failed
    awk '{ passed += $1; failed += $2; skipped += $3 }
         END { printf "%d passed, %d failed", passed, failed
               if (skipped) printf ", %d skipped", skipped
               printf "\n"
               exit failed > 0 || passed == 0 }' "$1"
}

name_of() { echo "$1" | sed -e "s|^$BUILD/||" -e 's|/|_|g' -e 's|_check.sh$||' -e 's|^tests_||'; }

one() {  # logs program
    name=$(name_of "$2")
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
    counts=$(tail -n 1 "$log" | sed -n \
        's/^\([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)\{0,1\}$/\1 \2 \4/p')
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
    echo "$passed $failed $skipped" >"$1/$name.part"
    mv "$1/$name.part" "$1/$name.count"
}

# Says what each program gave, in the order of the list, as soon as it and those before it have ended.
say() {  # logs program...
    logs=$1
    shift
    for program; do
        name=$(name_of "$program")
        until [ -f "$logs/$name.count" ]; do
            [ ! -f "$logs/all" ] && kill -0 $$ 2>/dev/null || break
            sleep 0.1
        done
        [ ! -f "$logs/$name.count" ] || cat "$logs/$name.said"
    done
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
cat "$logs"/*.count >"$logs/counts"
[ -z "${TOTALS:-}" ] || cat "$logs/counts" >>"$TOTALS"
sum "$logs/counts"
