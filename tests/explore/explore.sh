#!/bin/sh
# explore.sh - `make explore`: the explorer's own tests; every scenario on futexes and, by turns, on one
# of the other three back ends (BACKENDS=all: on all four); sweeps; the broken variants. T=name takes
# only scenarios whose name contains it, SCALE=n multiplies the schedules, SECS= is the time for one
# search (by itself: a share of what is left of five minutes), JOBS= how many at once.
#
#   explore.sh --replay BACKEND ID [options]    one schedule of scenario T again
#   explore.sh --soak                           fresh seeds for SECS seconds, or until a failure
set -u
CC=${CC:-gcc}
BUILD=${BUILD:-build}
here=tests/explore
W=$BUILD/explore
SCALE=${SCALE:-1}
export CC BUILD EXPLORE_BUILD="$W" SCALE
passed=0 failed=0 skipped=0
. $here/tools.sh

JOBS=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
END=${END:-$(($(date +%s) + 290))}
export JOBS END
RANDOM_RUNS=$((100000 * SCALE)) PCT_RUNS=$((50000 * SCALE)) TREE_RUNS=$((10000000 * SCALE))
TREE_BOUNDS='--preemptions=2 --stale=1 --faults=1'
if [ "${1:-}" = --library ]; then
    build_library "$2"
    exit
fi
if [ "${1:-}" = --one ]; then
    set -- $2
    case $1 in
    broken | sweeps) "$1" "$2" ;;
    *)
        # the other back ends share all but the park: less of it
        weight=5
        [ "$1" = futex ] || { RANDOM_RUNS=$((RANDOM_RUNS / 5)) PCT_RUNS=$((PCT_RUNS / 5)) weight=1; }
        bounds=$(told "$2" EXPLORE-TREE)
        TREE_BOUNDS=${bounds:-$TREE_BOUNDS}
        build_scenario "$1" "$2" >/dev/null
        # a share of the time that is left, of all processors, less what it costs to build the programs
        LIMIT="--seed=${SEED:-1} --seconds=$(awk -v fixed="${SECS:-}" -v left=$((END - $(date +%s))) -v jobs="$JOBS" \
            -v weight=$weight -v weights="${3:-$weight}" -v programs="${4:-0}" 'BEGIN {
                share = (left * jobs - programs * 0.4) * weight / weights / 3
                print (fixed != "" ? fixed : share < 0.2 ? 0.2 : share > 30 ? 30 : share) }')"
        scenario "$1" "$2" ;;
    esac
    exit 0
fi

missing && exit 0
if [ "${1:-}" = --replay ]; then
    backend=$2 id=$3
    shift 3
    [ -f "$here/scenarios/$T.c" ] || { echo "T= must name a scenario: there is no $here/scenarios/$T.c" >&2; exit 2; }
    $here/explore-cc && build_scenario "$backend" "$here/scenarios/$T.c" || exit 1
    # shellcheck disable=SC2046 # options
    exec "$W/$backend/$T" --spurious --no-polling $(told "$here/scenarios/$T.c" EXPLORE) "$@" --replay="$id" --verbose
fi
# soak: fresh seeds, round after round, until a failure or SECS seconds; the log says which seeds.
if [ "${1:-}" = --soak ]; then
    end=$(($(date +%s) + ${SECS:-3600})) seed=${SEED:-$(date +%s)}
    $here/explore-cc || exit 1
    while [ "$(date +%s)" -lt "$end" ]; do
        ls $here/scenarios/*.c | grep -e "${T:-.}" | sed -e 's/^/futex /' | tr '\n' '\0' |
            SECS=10 SEED=$seed SCALE=100 xargs -0 -n 1 -P "$JOBS" sh "$0" --one >"$W/soak.round"
        sed -e "s/^/seed $seed: /" "$W/soak.round" | tee -a "$W/soak.log"
        passed=$((passed + $(grep -c ': passed$' "$W/soak.round")))
        failed=$((failed + $(grep -c ': FAILED$' "$W/soak.round")))
        [ $failed -eq 0 ] || break
        seed=$((seed + 1))
    done
    total
    exit
fi
$here/explore-cc || { echo "0 passed, 1 failed"; exit 1; }
build_corpus || { echo "FAIL explore: the corpus does not build"; cat "$W/corpus.log"; echo "0 passed, 1 failed"; exit 1; }
cases "$W/corpus" "$W/cases"

sed -n -e '/^#/d' -e 's/^\([a-z_0-9]*\) *|.*/broken \1/p' $here/broken.txt | grep -e "${T:-.}" >"$W/todo"
sed -n -e '/^#/d' -e 's/^\([a-z_0-9]*\) *|.*/sweeps \1/p' $here/sweeps.txt | grep -e "${T:-.}" >>"$W/todo"
turn=0
for file in $here/scenarios/*.c; do
    case $(basename "$file" .c) in
    *"${T:-}"*) ;;
    *) continue ;;
    esac
    turn=$((turn + 1))
    others=
    case ${BACKENDS:-}$((turn % 3)) in
    all*) others='pthread no-futex no-futex-pthread' ;;
    0) others=pthread ;;
    1) others=no-futex ;;
    2) others=no-futex-pthread ;;
    esac
    for backend in futex $others; do echo "$backend $file"; done
done | awk '{ line[NR] = $0; weight[NR] = $1 == "futex" ? 5 : 1; sum += weight[NR] }
    END { for (i = 1; i <= NR; i++) { print line[i], sum, NR - i; sum -= weight[i] } }' >>"$W/todo"
# how fast it is: docs/verification.md
speed=$here/scenarios/queue_lock_close.c
[ ! -f $speed ] || ! build_scenario futex $speed >/dev/null ||
    "$W/futex/queue_lock_close" --spurious --schedules=40000 | sed -n \
        's/^random: .* \([0-9.]*\) steps on average.* \([0-9]*\)\/s$/`queue_lock_close`, \1 steps on average | \2/p' >"$W/speed"

cut -d' ' -f1 "$W/todo" | grep -e futex -e pthread | sort -u | tr '\n' '\0' |
    xargs -0 -r -n 1 -P "$JOBS" sh "$0" --library || { echo "FAIL explore: the library does not build"; failed=$((failed + 1)); }
tr '\n' '\0' <"$W/todo" | xargs -0 -r -n 1 -P "$JOBS" sh "$0" --one |
    tee "$W/results"
passed=$((passed + $(grep -c ': passed$' "$W/results")))
failed=$((failed + $(grep -c ': FAILED$' "$W/results")))
if [ -z "${T:-}" ]; then # for docs/verification.md
    cp "$W/results" "$W/results.all"
elif [ -n "${SECS:-}" ]; then
    grep ', exhausted in .*: passed$' "$W/results" >>"$W/longer"
fi
total
