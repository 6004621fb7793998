#!/bin/sh
# explore.sh - `make explore`: the explorer's own tests; the broken variants; sweeps; every scenario on futexes and on one
# of the other three back ends (BACKENDS=all: on all four), from where the last run left it (tools.sh: the ledger).
#
#   T=name      only scenarios, broken variants and sweeps whose name fits this regular expression: T='queue|pipe'
#   BACKENDS=all or futex
#   MINUTES=5   in sum; what is not built yet is built first, and takes of it
#   SECS=n      for each search, in place of a share of that
#   FULL=1      until every random and PCT search is done; trees up to TREE=1000000 schedules
#   SCALE=n     times as many schedules
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
begin=${begin:-$(date +%s)}
END=${END:-$((begin + ${MINUTES:-5} * 60 - 10))}
[ "${SEED:-1}" = 1 ] || LEDGER= # it counts the schedules of the first seed
LEDGER=${LEDGER-$W/ledger} NEW=${NEW-$W/new}
export JOBS END LEDGER NEW
RANDOM_RUNS=$((100000 * SCALE)) PCT_RUNS=$((50000 * SCALE)) TREE_RUNS=$((10000000 * SCALE))
[ -z "${FULL:-}" ] || TREE_RUNS=${TREE:-1000000}
TREE_BOUNDS='--preemptions=2 --stale=1 --faults=1'
if [ "${1:-}" = --one ]; then
    # shellcheck disable=SC2086 # words
    set -- $2
    case $1 in
    kit) shift; build_kit "$@" || echo "kit $1 $2 does not build: FAILED" ;;
    build) build_scenario "$2" "$3" >/dev/null && write_key "$W/$2/$(basename "$3" .c)" "$3" ;;
    build-broken) build_broken "$2" ;;
    broken | sweeps) "$1" "$2" ;;
    *)
        # the other back ends share all but the park: less of it
        weight=5
        [ "$1" = futex ] || { RANDOM_RUNS=$((RANDOM_RUNS / 5)) PCT_RUNS=$((PCT_RUNS / 5)) weight=1; }
        bounds=$(told "$2" EXPLORE-TREE)
        TREE_BOUNDS=${bounds:-$TREE_BOUNDS}
        LIMIT=--seed=${SEED:-1} EACH=${SECS:-} BUDGET=
        # a share of the time that is left, of all processors
        [ -n "${SECS:-}${FULL:-}" ] || BUDGET=$(((END - $(date +%s)) * JOBS * 1000 * weight / ${3:-$weight}))
        scenario "$1" "$2" ;;
    esac
    exit 0
fi

missing && exit 0
mkdir -p "$W"
case ${1:-} in
'' | --soak)
    ls $here/scenarios/*.c | sed -e 's,.*/\(.*\)\.c,\1 &,' | named >"$W/scenarios" || exit 2
    for list in broken sweeps; do
        [ -n "${1:-}" ] || sed -n -e '/^#/d' -e 's/^\([a-z_0-9]*\) *|.*/\1/p' $here/$list.txt | named | sed -e "s/^/$list /"
    done >"$W/todo"
    if [ ! -s "$W/scenarios" ] && [ ! -s "$W/todo" ]; then
        echo "T=${T:-} fits the name of no scenario, broken variant or sweep" >&2
        exit 2
    fi ;;
esac
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
    $here/explore-cc && plan $here/scenarios/*.c || exit 1
    while [ "$(date +%s)" -lt "$end" ]; do
        sed -e 's/^[^ ]*/futex/' "$W/scenarios" | tr '\n' '\0' |
            LEDGER= NEW= SECS=10 SEED=$seed SCALE=100 xargs -0 -r -n 1 -P "$JOBS" sh "$0" --one >"$W/soak.round"
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

todo() {  # file: all of its lines, as many at once as there are processors
    tr '\n' '\0' <"$1" | xargs -0 -r -n 1 -P "$JOBS" sh "$0" --one
}

plan $here/scenarios/*.c
while read -r name file; do
    others=
    case ${BACKENDS:-}$(((${#name} + 2) % 3)) in # always the same one for a scenario
    all*) others='pthread no-futex no-futex-pthread' ;;
    futex*) ;;
    0) others=pthread ;;
    1) others=no-futex ;;
    2) others=no-futex-pthread ;;
    esac
    wanted=$(told "$file" EXPLORE-BACKENDS)
    for backend in futex $others; do
        case " ${wanted:-$backend} " in
        *" $backend "*) echo "$backend $file" ;;
        esac
    done
done <"$W/scenarios" >"$W/searches"

# ---- what is to be built: kits, then programs ----
common=$(ls -t $here/explore-cc $here/redirect.txt $here/harmless.txt $here/explore.h $here/linear.h $here/src/entry.c | head -n 1)
fresh() {  # target, sources: without a process, as there are hundreds
    [ -x "$1" ] && [ "$1" -nt "$common" ] || return 1
    target=$1
    shift
    for source; do [ "$target" -nt "$source" ] || return 1; done
}
awk -v here=$here/scenarios/ 'NR == FNR { file = here $1 ".c"; kit[file] = $2; $1 = $2 = ""; parts[file] = $0; next }
    { print $1, $2, kit[$2], parts[$2] }' "$W/plan" "$W/searches" | while read -r backend file kit parts; do
    name=${file##*/} program=$W/$backend/${name%.c}
    [ "$kit" = - ] || parts="$parts $W/kits/$kit.c"
    # shellcheck disable=SC2086 # files
    fresh "$program" "$file" $parts && [ "$program.key" -nt "$program" ] && [ "$program.key" -nt "$W/libexplore.so" ] ||
        echo "$backend $file $kit $parts"
done >"$W/stale"
awk '$3 != "-" && !seen[$1, $3]++ { line = "kit " $1 " " $3; for (i = 4; i <= NF; i++) if ($i ~ /^patterns/) line = line " " $i; print line }' \
    "$W/stale" >"$W/kits/todo"
todo "$W/kits/todo" | tee "$W/results"
cut -d' ' -f1,2 "$W/stale" | sed 's/^/build /' >"$W/kits/todo"
awk -F' *[|] *' 'NR == FNR { split($0, word, " "); rest = $0; sub(/^[^ ]* [^ ]* */, "", rest); parts[word[1]] = rest; next }
    /^[a-z]/ { print $1, $2, parts[$2] }' "$W/plan" $here/broken.txt | named | while read -r name target parts; do
    # shellcheck disable=SC2086 # files
    fresh "$W/broken/$name/program" $here/broken.txt $here/scenarios/"$target".c $parts || echo "build-broken $name"
done >>"$W/kits/todo"
todo "$W/kits/todo"
built=$(date +%s)
cases "$W/corpus" "$W/cases"

# ---- how fast it is: docs/verification.md ----
speed=$here/scenarios/queue_lock_close.c
[ ! -f $speed ] || ! build_scenario futex $speed >/dev/null ||
    "$W/futex/queue_lock_close" --spurious --schedules=40000 | sed -n \
        's/^random: .* \([0-9.]*\) steps on average.* \([0-9]*\)\/s$/`queue_lock_close`, \1 steps on average | \2/p' >"$W/speed"

# ---- the searches: the variants and sweeps, then the scenarios, those first that need least ----
need() {  # lines of $W/searches with, in front, how many schedules are left to do: a scenario that nobody knows comes first
    while read -r backend file; do
        name=${file##*/} key=
        [ ! -e "$W/$backend/${name%.c}.key" ] || read -r key <"$W/$backend/${name%.c}.key"
        echo "${key:-none} $backend $file"
    done <"$W/searches" | awk -v random=$RANDOM_RUNS -v pct=$PCT_RUNS '
        ledger && $2 == "random" && $4 > r[$1] { r[$1] = $4 }
        ledger && $2 == "pct" && $4 > p[$1] { p[$1] = $4 }
        ledger && $2 == "exhausted" { e[$1] = 1 }
        ledger { known[$1] = 1; next }
        {
            part = $2 == "futex" ? 1 : 5
            left = random / part - r[$1] + pct / part - p[$1]
            weight = left <= 0 && e[$1] ? 0 : 1
            print (known[$1] ? left + (e[$1] ? 0 : 1) : 0), (weight ? 5 / part : 0), $2, $3
        }' ledger=1 "${LEDGER:-/dev/null}" ledger=0 -
}
[ -z "$LEDGER" ] || touch "$LEDGER"
: >"$NEW"
need | sort -n | awk '{ line[NR] = $3 " " $4; weight[NR] = $2; sum += $2 }
    END { for (i = 1; i <= NR; i++) { print line[i], (sum > 0 ? sum : 1); sum -= weight[i] } }' >>"$W/todo"
if [ -n "${FULL:-}" ]; then # the trees last: some of them have no end in sight
    grep -v -e '^broken ' -e '^sweeps ' "$W/todo" >"$W/todo.numbers"
    TREE=0 todo "$W/todo.numbers" | grep --line-buffered -v ': passed$' | tee -a "$W/results"
fi
todo "$W/todo" | tee -a "$W/results"
new_schedules() {
    awk '{ sum += $3 == "random" || $3 == "pct" ? $5 - $4 : $4 } END { printf "%.0f\n", sum }' "$NEW"
}
passed=$((passed + $(grep -c ': passed$' "$W/results")))
failed=$((failed + $(grep -c ': FAILED$' "$W/results")))
if [ -z "${T:-}" ]; then # for docs/verification.md
    cp "$W/results" "$W/results.all"
    new_schedules >"$W/new.all"
elif [ -n "${SECS:-}${FULL:-}" ]; then
    grep ', exhausted in .*: passed$' "$W/results" >>"$W/longer"
fi
echo "built in $((built - begin)) s, then $(($(date +%s) - built)) s of tests and searches; $(new_schedules | awk '{ printf "%.1f", $1 / 1e6 }') million schedules that are new"
total
