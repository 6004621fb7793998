#!/bin/sh
# mutants.sh - `make mutants`: small mistakes in patterns/src (mutate.awk), each of which a scenario or a test must notice.
# What nobody notices must have its reason in survivors.txt.
#
#   F='lock.h queue'  only files whose name contains one of them   JOBS=2    so many at once
#   SAMPLE=50         so many of each file, drawn by SEED=1   HARD=4    four times the schedules and tests
#   M=text            only mutants whose name contains it     AGAIN=1   those that are not killed yet, once more
#   SECS=300          for so long; called again, it goes on where it was
#   P='queue test_x'  do programs whose name contains one of them notice what is open?
#
# All mutants are compiled into each program at once, each behind a switch, and one run with all of them off tells which
# program comes to which. A mutant is tried by these alone (run.c). One that is in no program (the code of another
# system), or that changes no instruction, does not count.
set -u
CC=${CC:-gcc}
BUILD=${BUILD:-build}
here=tests/explore
W=$BUILD/explore
M_=$W/mutants
HARD=${HARD:-1}
export CC BUILD EXPLORE_BUILD="$W" HARD
export ASAN_OPTIONS=hard_rss_limit_mb=2000:detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1
passed=0 failed=0 skipped=0
. $here/tools.sh
W=$M_ # whose kits have the mutants
mutants=$here/mutants/mutants.h
INCLUDE="-include $mutants -I$M_/include"
JOBS=${JOBS:-$(getconf _NPROCESSORS_ONLN)}

# ---- one source with all mutants ----

write_sources() {
    rm -rf "$M_/src" "$M_/include"
    mkdir -p "$M_/include"
    cp -r patterns/src "$M_/src"
    (cd patterns/src && find . -name '*.h') | sed 's,^\./,,' | sort >"$M_/files"
    : >"$M_/list"
    while read -r file; do
        first=$(wc -l <"$M_/list")
        awk -f $here/mutants/mutate.awk patterns/src/"$file" |
            awk -v n="$first" -v file="$file" '{ print n++ "\t" file "\t" $0 }' >>"$M_/list"
        awk -v first=$((first)) -v leave="$M_/leave" -f $here/mutants/mutate.awk patterns/src/"$file" >"$M_/src/$file"
    done <"$M_/files"
    "$BUILD/amalgamate" "$M_/src" "$M_/include" LICENSE "$M_"/src/[!a]*.h >"$M_/log"
}

compiles() {  # compiler options: with all headers; else $M_/leave grows by the mutants of the lines that do not
    # shellcheck disable=SC2086 # options
    $CC -std=c11 $1 -w -Werror=vla -include $here/mutants/mutants.h -I"$M_/include" -DTWILL_IMPLEMENTATION -fsyntax-only \
        -x c "$M_/include/twill.h" 2>"$M_/log" && return 0
    sed -n 's/^[^:]*twill\.h:\([0-9]*\):.* error.*/\1p/p' "$M_/log" | sort -u | sed -n -f - "$M_/include/twill.h" |
        grep -o -e 'mutant(\?[_a-z]*(*[0-9]*' -e 'MUTANT_[A-Z_]*([0-9]*, [0-9]*' | grep -o '[0-9]*' >>"$M_/leave"
    return 1
}

write_mutants() {
    : >"$M_/leave"
    for round in 1 2 3 4 5 6; do
        write_sources || return 1
        compiles '' && compiles -DTWILL_NO_FUTEX && compiles '-DTWILL_NO_FUTEX -DTWILL_USE_PTHREAD' && return 0
    done
    head -n 20 "$M_/log"
    return 1
}

# ---- the programs: a line "name file back end" each ----

programs() {
    for file in $here/scenarios/*.c; do
        name=$(basename "$file" .c)
        backends=$(told "$file" EXPLORE-BACKENDS)
        case $name in # what has code of its own for a back end
        park_* | fork_* | cancel_lock | cancel_push_deadline) backends=${backends:-futex no-futex no-futex-pthread} ;;
        team_meeting) backends=${backends:-futex no-futex} ;; # there who parks may read an old epoch
        *) backends=${backends:-futex} backends=${backends%% *} ;;
        esac
        for backend in $backends; do echo "$name $file $backend"; done
    done
    for file in $(grep -l -e '^#define TWILL_IMPLEMENTATION' -e '^#include "twill[_.]' tests/test_*.c); do
        name=$(basename "$file" .c)
        echo "$name $file futex"
        case $name in test_platform) echo "$name $file no-futex"; echo "$name $file no-futex-pthread" ;; esac
    done
}

# Those of them that see a part whose name contains one of $F: in a header, or they take parts by themselves.
concerned() {
    awk -v only="${F:-}" -v plan="$W/plan" -v here="$here/" '
        function sees(header) {
            gsub(/.*\/|"/, "", header)
            return header in seen
        }
        function asks(file,    line, yes) {
            while (!yes && (getline line < file) > 0)
                yes = line ~ /^#include "/ && (line ~ /[^.]\// || sees(substr(line, 10)))
            close(file)
            return yes
        }
        function look(part) { for (i = 1; i <= n; i++) if (index(part, wanted[i])) seen[header] }
        BEGIN {
            n = split(only, wanted, " ")
            while ((getline < plan) > 0) included[$1] = $0
        }
        !n { print; next }
        FNR == 1 && FILENAME != "-" {
            header = FILENAME
            gsub(/.*\//, "", header)
            look(substr(header, 7)) # twill_pipeline.h has the part pipeline.h
        }
        FILENAME != "-" { if (/^\/[*] ---- [a-z_]*\/[a-z_]*\.h ---- [*]\/$/) look($3); next }
        index($2, here) != 1 { if (asks($2)) print; next }
        {
            m = split(included[$1], word, " ")
            for (k = 3; k <= m && word[k] != "patterns/*.h" && !sees(word[k]); k++) {}
            if (k <= m) print
        }' $([ -z "${F:-}" ] || echo "$M_"/include/*.h) -
}

build_one() {  # name, file, back end
    target=$M_/programs/$1@$3
    parts= own='--allow=(open|mmap)(64)?|ftruncate(64)?|close|abort' # mutants.o is not watched
    case $2 in $here/*) planned "$2" ;; esac
    # shellcheck disable=SC2086 # files
    [ ! -x "$target" ] || [ -n "$(find "$2" $parts "$M_/list" $here/src $here/explore.h -newer "$target" | head -n 1)" ] || return 0
    rm -f "$target.unit"
    case $2 in
    $here/*)
        # shellcheck disable=SC2046,SC2086 # flags, files
        if [ "$kit" = - ]; then
            $here/explore-cc -w -DTWILL_STATIC $(backend_flags "$3") $(told "$2" EXPLORE-FLAGS) $INCLUDE "$own" -o "$target" "$2" "$M_/mutants.o"
        else
            build_kit "$3" "$kit" $mutants "$M_/list" &&
                $here/explore-cc -w -fno-inline -include "$W/kits/borrow.h" $(backend_flags "$3") $(told "$2" EXPLORE-FLAGS) $INCLUDE \
                    "$own" -o "$target" "$2" "$W/$3/$kit.o" "$M_/mutants.o"
        fi ;;
    *)
        # shellcheck disable=SC2046,SC2086 # flags
        $CC -std=c11 -O0 -g1 -w -fsanitize=address,undefined -fno-sanitize-recover=undefined -DTWILL_STATIC \
            -DTWILL_IMPLEMENTATION= $(backend_flags "$3") $INCLUDE -Itests -I"$M_/src" -pthread \
            -o "$target" "$2" "$M_/mutants.o" -lm ;;
    esac >"$target.log" 2>&1 || { echo "FAIL mutants: $1@$3 does not build"; tail -n 5 "$target.log"; return 1; }
    objcopy --dump-section .mutants="$target.numbers" "$target" "$target.copy" 2>/dev/null || : >"$target.numbers"
    rm -f "$target.copy"
}

# ---- which of them comes to which mutant, and what it costs: lines for run.c ----

clock() { date +%s%N | sed 's/......$//'; }

unit() {  # name, kind, milliseconds, sure, file of hits, command
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$@" >>"$target.units"
}

measure_one() {  # name, file, back end
    target=$M_/programs/$1@$3 name=$1
    [ "$3" = futex ] || name=$1@$3
    [ ! -f "$target.unit" ] || return 0
    : >"$target.units"
    case $2 in
    $here/*)
        options=$(told "$2" EXPLORE)
        rm -f "$target.hits" "$target.labels"
        begun=$(clock)
        for search in 'random --spurious --schedules=1500' 'pct --spurious --schedules=1000' \
            'exhaustive --preemptions=2 --stale=1 --faults=1 --schedules=1500'; do
            # shellcheck disable=SC2086 # options
            MUTANT_HITS=$target.hits timeout -k 1 60 "$target" --strategy=$search --max-steps=8000 --no-shrink --no-polling \
                $options >"$target.log" 2>&1 || { echo "FAIL mutants: $name fails without any mutant"; tail -n 4 "$target.log"; return 1; }
            sed -n 's/^reached: .* in \([0-9]*\) schedules$/\1/p' "$target.log" >>"$target.labels"
        done
        sure=$(awk '$1 < 30 { rare = 1 } END { print !rare }' "$target.labels")
        unit "$name" scenario $(($(clock) - begun)) "$sure" "$target.hits" "$target $options" ;;
    *)
        for test in $("$target" -l); do
            rm -f "$target.$test.hits"
            begun=$(clock)
            if MUTANT_HITS=$target.$test.hits timeout -k 1 60 "$target" "$test" >"$target.log" 2>&1; then
                unit "$name:$test" test $(($(clock) - begun)) 0 "$target.$test.hits" "$target $test"
            else
                echo "mutants: $name: $test fails without any mutant: it is left out"
            fi
        done ;;
    esac
    mv "$target.units" "$target.unit"
}

# What the compiler makes of a part with one mutant, as a sum.
instructions() {  # number, header, back end
    object=$M_/same.$$.o
    # shellcheck disable=SC2046 # flags
    $CC -std=c11 -O1 -w -fsanitize=thread -U__SANITIZE_THREAD__ -DTWILL__TICKS=0 -DTWILL__SPIN=0 -DMUTANT="$1" $(backend_flags "$3") \
        -include $here/mutants/mutants.h -DTWILL_IMPLEMENTATION -c -o "$object" -x c "$2" && objdump -dr "$object" | sed 1,3d | cksum
    rm -f "$object"
}

same_one() {  # number, file, name: a line for the results if it changes nothing on any back end
    # a < b ? a : b with <= is the same
    case $3 in
    bound*' '[\<\>]*' '[\<\>]*) ;;
    bound*) ! echo "$3" | grep -qE '(^|return |[=(,] ?)([^ ?:=(,]+) [<>]=? ([^ ?:=,]+) \? (\2 : \3|\3 : \2)[;,) ]' || {
        printf '%s\t%s\tunchanged\t0 ms\n' "$2" "$3"
        return
    } ;;
    esac
    header=$(grep -l -e "mutant($1)" -e "MUTANT_[A-Z_]*($1," -e "MUTANT_IF([0-9]*, $1," -e "mutant_[a-z_]*($1," "$M_"/include/*.h |
        xargs ls -S | tail -n 1)
    for backend in futex no-futex no-futex-pthread; do
        whole=$M_/same/$(basename "$header").$backend
        [ -s "$whole" ] || instructions -1 "$header" $backend >"$whole"
        [ "$(cat "$whole")" = "$(instructions "$1" "$header" $backend)" ] || { echo "$2 | $3" >>"$M_/same/no"; return 0; }
    done
    printf '%s\t%s\tunchanged\t0 ms\n' "$2" "$3"
}

case ${1:-} in
--same) echo "${2:-}" | while IFS="	" read -r number file name && [ -n "$number" ]; do same_one "$number" "$file" "$name"; done; exit ;;
--build) set -- $2; build_one "$@" && measure_one "$@"; exit ;;
esac

# ---- the list ----

missing && exit 0
mkdir -p "$M_/programs"
$here/explore-cc || exit 1
sum=$(cat patterns/src/*.h patterns/src/*/*.h $here/mutants/mutate.awk $here/mutants/mutants.[ch] | cksum)
if [ "$(cat "$M_/sum" 2>/dev/null)" != "$sum" ]; then
    rm -rf "$M_/sum" "$M_/same"
    write_mutants && $CC -O2 -c -o "$M_/mutants.o" $here/mutants/mutants.c || { echo "FAIL mutants: no sources with mutants"; exit 1; }
    echo "$sum" >"$M_/sum"
    git log -1 --format=%h -- patterns/src >"$M_/commit" 2>/dev/null
fi
$CC -std=gnu11 -O2 -Wall -Wextra -Werror -o "$M_/run" $here/mutants/run.c || exit 1
plan $here/scenarios/*.c
programs >"$M_/programs.all"
concerned <"$M_/programs.all" | awk -v only="${P:-}" '
    BEGIN { n = split(only, wanted, " ") }
    { for (i = 1; i <= n; i++) if (index($1, wanted[i])) break }
    i <= n || !n' >"$M_/todo"
tr '\n' '\0' <"$M_/todo" | xargs -0 -r -n 1 -P "$JOBS" sh "$0" --build || failed=$((failed + 1))
while read -r name _ backend; do cat "$M_/programs/$name@$backend.unit"; done <"$M_/todo" >"$M_/units"
while read -r name _ backend; do cat "$M_/programs/$name@$backend.numbers"; done <"$M_/todo" | od -An -v -t d4 | tr -s ' ' '\n' |
    sed '/^$/d' | sort -nu >"$M_/compiled"

touch "$M_/results"
awk -F'\t' -v only="${F:-}" -v text="${M:-}" -v sample="${SAMPLE:-1000000}" -v seed="${SEED:-1}" '
    function draw(    i, k, t) { # of those of a file, whichever other files there are
        srand(seed)
        for (i = n; i > 1; i--) { k = 1 + int(rand() * i); t = drawn[i]; drawn[i] = drawn[k]; drawn[k] = t }
        for (i = 1; i <= n && i <= sample; i++) print drawn[i]
        n = 0
    }
    function among(file,    i) {
        for (i = 1; i <= names; i++) if (index(file, wanted[i])) return 1
        return !names
    }
    BEGIN { names = split(only, wanted, " ") }
    $2 != file { draw(); file = $2 }
    among($2) && index($3, text) { drawn[++n] = $0 }
    END { draw() }' "$M_/list" | sort -n >"$M_/selected.$$"
if [ -n "${P:-}" ]; then
    AGAIN=1
    export AGAIN
    sh $here/mutants/score.sh "$M_" --unexplained >"$M_/open.$$"
    awk -F'\t' 'FILENAME ~ /open/ { open[$0] = 1; next } ($2 " | " $3) in open' "$M_/open.$$" "$M_/selected.$$" >"$M_/few.$$"
    mv "$M_/few.$$" "$M_/selected.$$"
fi
[ "${1:-}" != --list ] || exit 0

# ---- all of them ----

[ -z "${SAMPLE:-}" ] || echo "The tried ones are a sample of each file, drawn with SEED=${SEED:-1}." >"$M_/sample"
worker=0
while [ $worker -lt "$JOBS" ]; do
    awk -v jobs="$JOBS" -v worker=$worker '(int(NR / 16)) % jobs == worker' "$M_/selected.$$" >"$M_/selected.$$.$worker"
    "$M_/run" "$M_/units" "$M_/selected.$$.$worker" "$M_/compiled" "$M_/results" "${SECS:-1000000}" &
    worker=$((worker + 1))
done
wait

# ---- those not noticed that change no instruction ----

mkdir -p "$M_/same"
touch "$M_/same/no"
sh $here/mutants/score.sh "$M_" --unexplained | grep -v -xF -f "$M_/same/no" >"$M_/unexplained.$$"
awk -F'\t' 'FILENAME ~ /unexplained/ { lived[$0] = 1; next } ($2 " | " $3) in lived' "$M_/unexplained.$$" "$M_/selected.$$" |
    grep -v '	weaken ' | tr '\n' '\0' | xargs -0 -r -n 1 -P "$JOBS" sh "$0" --same >>"$M_/results" # an order is always an instruction
rm -f "$M_"/*.$$ "$M_"/*.$$.*
sh $here/mutants/score.sh "$M_" || failed=$((failed + 1))
[ $failed -eq 0 ]
