#!/bin/sh
# explore.sh - `make explore`: the explorer's own tests, all scenarios on all back ends, and the
# broken variants. SCALE=n multiplies the schedules, SECS= the time for one search (default 6), T=name
# takes only scenarios whose name contains it, JOBS= how many at once.
set -u
CC=${CC:-gcc}
BUILD=${BUILD:-build}
here=tests/explore
W=$BUILD/explore
SCALE=${SCALE:-1}
export CC BUILD EXPLORE_BUILD="$W" SCALE
passed=0 failed=0 skipped=0
. $here/tools.sh

RANDOM_RUNS=$((100000 * SCALE)) PCT_RUNS=$((50000 * SCALE)) TREE_RUNS=$((1000000 * SCALE))
TREE_BOUNDS='--preemptions=2 --stale=1 --faults=1'
if [ "${1:-}" = --one ]; then
    set -- $2
    case $1 in
    broken) broken "$2" ;;
    *)
        # the other back ends share all but the park: a tenth
        [ "$1" = futex ] || { RANDOM_RUNS=$((RANDOM_RUNS / 10)) PCT_RUNS=$((PCT_RUNS / 10)); SECS=1; }
        LIMIT="--seconds=${SECS:-6} --seed=${SEED:-1}"
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
    exec "$W/$backend/$T" --spurious $(told "$here/scenarios/$T.c" EXPLORE) "$@" --replay="$id" --verbose
fi
# soak: fresh seeds, round after round, until a failure or SECS seconds; the log says which seeds.
if [ "${1:-}" = --soak ]; then
    end=$(($(date +%s) + ${SECS:-3600})) seed=${SEED:-$(date +%s)}
    $here/explore-cc || exit 1
    while [ "$(date +%s)" -lt "$end" ]; do
        ls $here/scenarios/*.c | grep -e "${T:-.}" | sed -e 's/^/futex /' | tr '\n' '\0' |
            SECS=10 SEED=$seed SCALE=100 xargs -0 -n 1 -P "${JOBS:-$(getconf _NPROCESSORS_ONLN)}" \
                sh "$0" --one >"$W/soak.round"
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

for backend in futex pthread no-futex no-futex-pthread; do
    for file in $here/scenarios/*.c; do
        case $file in
        *"${T:-}"*) echo "$backend $file" ;;
        esac
    done
done >"$W/todo"
sed -n -e '/^#/d' -e 's/^\([a-z_0-9]*\) *|.*/broken \1/p' $here/broken.txt | grep -e "${T:-.}" >>"$W/todo"
tr '\n' '\0' <"$W/todo" | xargs -0 -n 1 -P "${JOBS:-$(getconf _NPROCESSORS_ONLN)}" sh "$0" --one |
    tee "$W/results"
passed=$((passed + $(grep -c ': passed$' "$W/results")))
failed=$((failed + $(grep -c ': FAILED$' "$W/results")))
total
