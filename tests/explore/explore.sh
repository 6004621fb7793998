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
