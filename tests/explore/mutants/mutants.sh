#!/bin/sh
# mutants.sh - `make mutants`: small mistakes in patterns/src, one at a time (mutate.awk), each of which the
# scenarios and tests of its file (map.txt) must notice. What nobody notices must have its reason in survivors.txt.
#
#   F=engine/lock.h   only files whose name contains it     JOBS=2    so many at once
#   SAMPLE=50         so many mutants, drawn by SEED=1      HARD=20   twenty times the schedules
#   M=text            only mutants whose name contains it     AGAIN=file  those of an earlier result that lived on
#
# A mutant that does not compile, or that changes no instruction of any program, does not count.
set -u
CC=${CC:-gcc}
BUILD=${BUILD:-build}
here=tests/explore
W=$BUILD/explore
M_=$W/mutants
export CC BUILD EXPLORE_BUILD="$W"
passed=0 failed=0 skipped=0
. $here/tools.sh

line_of() {  # file: its line of the map, without the left side
    grep '^[^#]' $here/mutants/map.txt | while read -r pattern _ checks; do
        # shellcheck disable=SC2254 # a pattern
        case $1 in
        $pattern) echo "$checks"; break ;;
        esac
    done
}

covers() {  # file: the checks that cover it
    line_of "$1" | tr ' ' '\n' | while IFS=@ read -r name backend; do
        for path in $here/scenarios/$name.c tests/$name.c; do
            [ ! -f "$path" ] || echo "$path@${backend:-futex}"
        done
    done | awk '!seen[$0]++' | grep -vxF -f "$M_/broken"
}

killers() {  # file: its checks, what has killed most first; cheap ones before dear ones
    { sed -n "s,^$1	,,p" "$M_/killers" 2>/dev/null | sort | uniq -c | sort -rn | awk '{ print $2 }'
      covers "$1"; } | grep -vxF -f "$M_/broken" | awk '!seen[$0]++'
}

# What the compiler sees, as a sum: the same, and nothing needs to be compiled.
seen_by_compiler() {  # check, folder with include/
    path=${1%@*}
    # shellcheck disable=SC2046 # flags
    $CC -std=c11 -E -P -w -DTWILL_STATIC -DTWILL__TICKS=0 -DTWILL__SPIN=0 $(backend_flags "${1#*@}") $(told "$path" EXPLORE-FLAGS) \
        -include $here/mutants/orders.h -I"$2/include" -I$here -Itests "$path" 2>/dev/null | cksum
}

build_check() {  # check, folder with include/: builds program and text in the folder
    path=${1%@*} backend=${1#*@}
    case $path in
    $here/*)
        # shellcheck disable=SC2046 # flags
        $here/explore-cc -w -DTWILL_STATIC $(backend_flags "$backend") $(told "$path" EXPLORE-FLAGS) \
            -include $here/mutants/orders.h -I"$2/include" -o "$2/program" "$path" ;;
    *)
        # shellcheck disable=SC2046 # flags
        $CC -std=c11 -O0 -w -DTWILL_STATIC $(backend_flags "$backend") -include $here/mutants/orders.h \
            -I"$2/include" -Itests -pthread -o "$2/program" "$path" -lm ;;
    esac >"$2/log" 2>&1 && objcopy -O binary -j .text "$2/program" "$2/text"
}

# True: it has noticed nothing.
run_check() {  # check, folder
    path=${1%@*}
    case $path in
    $here/*)
        options=$(told "$path" EXPLORE)
        for search in "random --spurious --schedules=$((1500 * HARD))" "pct --spurious --schedules=$((1000 * HARD))" \
            "exhaustive --preemptions=2 --stale=1 --faults=1 --schedules=$((2000 * HARD))"; do
            # shellcheck disable=SC2086 # options
            timeout -k 1 $((10 + 2 * HARD)) "$2/program" --strategy=$search --no-shrink --no-polling --max-steps=8000 \
                --seconds=$((2 * HARD)) $options >"$2/log" 2>&1 || return 1
        done ;;
    *)
        timeout -k 1 90 "$2/program" -t 5 >"$2/log" 2>&1 ;;
    esac
}

text_of() {  # check: where the unchanged program's instructions are
    echo "$M_/base/$(echo "$1" | tr '/@' '__').text"
}

# ---- one mutant: a line in the results ----

if [ "${1:-}" = --one ]; then
    file=${2%%	*} name=${2#*	}
    folder=$M_/run.$$
    mkdir -p "$folder/include"
    cp -r patterns/src "$folder/src"
    result=unchanged
    if ! awk -v make="$(echo "$name" | sed 's/\\/\\\\/g')" -f $here/mutants/mutate.awk patterns/src/"$file" >"$folder/src/$file"; then
        result='no such mutant'
    elif ! "$BUILD/amalgamate" "$folder/src" "$folder/include" LICENSE "$folder"/src/[!a]*.h >"$folder/log" 2>&1; then
        result='does not compile'
    else
        for check in $(killers "$file"); do
            [ "$(seen_by_compiler "$check" "$folder")" != "$(cat "$(text_of "$check").seen")" ] || continue
            if ! build_check "$check" "$folder"; then
                result='does not compile'
                break
            fi
            cmp -s "$folder/text" "$(text_of "$check")" && continue
            result=survived
            run_check "$check" "$folder" && continue
            result="killed by $(basename "${check%@*}" .c)"
            [ "${check#*@}" = futex ] || result="$result@${check#*@}"
            printf '%s\t%s\n' "$file" "$check" >>"$M_/killers"
            break
        done
    fi
    printf '%s\t%s\t%s\n' "$file" "$name" "$result"
    rm -rf "$folder"
    exit 0
fi

# ---- the list ----

SAMPLE=${SAMPLE:-1000000} SEED=${SEED:-1} HARD=${HARD:-1}
export HARD
missing && exit 0
mkdir -p "$M_/base"
$here/explore-cc || exit 1
files=$(find patterns/src -name '*.h' | sed 's,^patterns/src/,,' | sort | grep -F -e "${F:-.h}" | while read -r file; do
    [ -z "$(line_of "$file")" ] || echo "$file"
done)
for file in $files; do
    awk -f $here/mutants/mutate.awk patterns/src/"$file" | sed "s,^,$file	,"
done | grep -F -e "${M:-|}" | awk -v sample="$SAMPLE" -v seed="$SEED" '
    { line[NR] = $0 }
    END {
        srand(seed)
        for (i = NR; i > 1; i--) { k = 1 + int(rand() * i); t = line[i]; line[i] = line[k]; line[k] = t }
        for (i = 1; i <= NR && i <= sample; i++) print line[i]
    }' >"$M_/list.$$"
if [ -n "${AGAIN:-}" ]; then # those of a result that were not noticed, or not tried
    awk -F'\t' 'NR == FNR { if ($3 ~ /^(killed|unchanged|does)/) done[$1, $2] = 1; next } !(($1, $2) in done)' \
        "$AGAIN" "$M_/list.$$" >"$M_/again.$$"
    mv "$M_/again.$$" "$M_/list.$$"
fi
: >>"$M_/killers"

# The unchanged programs must pass.
cp_include() { rm -rf "$M_/unchanged" && mkdir -p "$M_/unchanged/include" && cp patterns/twill*.h "$M_/unchanged/include/"; }
cp_include
echo none >"$M_/broken"
for file in $files; do covers "$file"; done | sort -u >"$M_/checks"
while read -r check; do
    text=$(text_of "$check")
    [ ! -f "$text.seen" ] || [ -n "$(find patterns/src $here/src "${check%@*}" -newer "$text" -type f | head -n 1)" ] || continue
    if build_check "$check" "$M_/unchanged" && run_check "$check" "$M_/unchanged"; then
        cp "$M_/unchanged/text" "$text"
        seen_by_compiler "$check" "$M_/unchanged" >"$text.seen"
    else
        echo "FAIL mutants: $check fails without any mutant"
        tail -n 5 "$M_/unchanged/log"
        failed=$((failed + 1))
        echo "$check" >>"$M_/broken" # it would fail with any
    fi
done <"$M_/checks"

# ---- all of them ----

tr '\n' '\0' <"$M_/list.$$" | xargs -0 -n 1 -P "${JOBS:-$(getconf _NPROCESSORS_ONLN)}" sh "$0" --one >"$M_/results.$$"
# what was ever tried is kept for docs/verification.md, the last answer for each
touch "$M_/tried"
cat "$M_/tried" "$M_/results.$$" | awk -F'\t' '{ last[$1 "\t" $2] = $3 } END { for (m in last) print m "\t" last[m] }' |
    sort >"$M_/tried.$$" && mv "$M_/tried.$$" "$M_/tried"
sh $here/mutants/score.sh "$M_/results.$$" || failed=$((failed + 1))
mv "$M_/results.$$" "$M_/results"
rm -f "$M_/list.$$" "$M_/results.$$.survivors"
[ $failed -eq 0 ]
