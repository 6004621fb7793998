# tools.sh - what check.sh and explore.sh share. Needs $CC, $W (a folder), $here; counts in $passed,
# $failed, $skipped.

total() {
    printf '%d passed, %d failed' "$passed" "$failed"
    [ "$skipped" -eq 0 ] || printf ', %d skipped' "$skipped"
    printf '\n'
    [ "$failed" -eq 0 ]
}

# True, with a count, where the explorer cannot work.
missing() {
    why=
    case $(uname -s)-$(uname -m) in
    Linux-x86_64 | Linux-aarch64) ;;
    *) why="it runs on Linux on x86-64 and arm64" ;;
    esac
    for tool in objcopy addr2line; do
        command -v $tool >/dev/null || why="$tool is missing (binutils)"
    done
    printf 'int main(void) { return 0; }\n' >"${TMPDIR:-/tmp}/explore-probe.$$.c"
    $CC -fsanitize=thread -c -o /dev/null "${TMPDIR:-/tmp}/explore-probe.$$.c" 2>/dev/null ||
        why="$CC does not know -fsanitize=thread"
    rm -f "${TMPDIR:-/tmp}/explore-probe.$$.c"
    [ -n "$why" ] || return 1
    echo "SKIP explore: $why"
    echo "0 passed, 0 failed, 1 skipped"
}

# A report without what differs from run to run: the count of schedules, the totals.
report() {
    grep -v -e '^in schedule' -e '^Schedule' -e '^$' -e '^random:' -e '^pct:' -e '^exhaustive:' -e '^replay:'
}

# The lines of the input whose first word fits the regular expression $T; all of them without one.
named() {
    awk '$1 ~ ENVIRON["T"]'
}

newest() {  # target, sources: is it newer than these, and than what every program has of the explorer?
    made=$1
    shift
    [ -x "$made" ] && [ -z "$(find "$@" $here/src/entry.c $here/explore.h $here/redirect.txt $here/harmless.txt \
        $here/explore-cc -newer "$made" -type f | head -n 1)" ]
}

build_corpus() {
    newest "$W/corpus" $here/corpus ||
        $here/explore-cc -Wall -Wextra -Werror -o "$W/corpus" $here/corpus/*.c >"$W/corpus.log" 2>&1
}

# ---- the explorer's own tests: each line of corpus/cases.txt ----

cases() {  # program, folder for logs
    program=$1 folder=$2
    mkdir -p "$folder"
    grep -v -e '^#' -e '^$' $here/corpus/cases.txt >"$folder/list"
    while IFS='|' read -r name expected options words; do
        set -- $name
        name=$1 words=${words# }
        set -- $expected
        expected=$*
        log=$folder/$name.log
        case "$expected $CC" in
        # clang's instrumentation does not tell a weak compare-and-swap from a strong one
        *gcc*clang*) skipped=$((skipped + 1)); echo "SKIP explore: $name: gcc only"; continue ;;
        esac
        # shellcheck disable=SC2086 # options
        timeout -k 2 300 "$program" $options -- $name >"$log" 2>&1
        status=$?
        why=
        case "$expected $status" in
        fails*' 1') grep -qF "$words" "$log" || why="the report does not say \"$words\"" ;;
        'passes 0')
            case $options in
            *exhaustive*)
                if grep -q 'NOT EXHAUSTED' "$log" || ! grep -q EXHAUSTED "$log"; then why="not exhausted"; fi ;;
            esac ;;
        *) why="status $status" ;;
        esac
        if [ -z "$why" ]; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "FAIL explore: $name must be what $expected with $options: $why"
            tail -n 8 "$log" | sed -e 's/^/  | /'
        fi
    done <"$folder/list"
}

# ---- scenarios ----
# A scenario may say in a comment: EXPLORE: options of the explorer; EXPLORE-FLAGS: of the compiler;
# EXPLORE-BACKENDS: futex pthread no-futex no-futex-pthread (those it is for).

told() {  # file, word
    sed -n "s/^.*$2: *\(.*\)/\1/p" "$1" | sed -e 's/ *\*\/.*//' | head -n 1
}

backend_flags() {
    case $1 in
    pthread) echo -std=c11 -DTWILL_USE_PTHREAD ;;
    no-futex) echo -std=c11 -DTWILL_NO_FUTEX ;;
    no-futex-pthread) echo -std=c11 -DTWILL_NO_FUTEX -DTWILL_USE_PTHREAD ;;
    *) echo -std=c11 ;;
    esac
}

# What each scenario is built from: a line "name kit files", and in $W/kits/KIT.c the library as it sees it: its
# headers with the macros that it, or what it includes, sets. A macro may call a function of the scenario if a line
# "extern ...;" declares it; else the kit is "-", and the library is compiled into the program.
plan() {
    mkdir -p "$W/kits"
    awk -v here="$here/scenarios/" -v kits="$W/kits/" '
        function take(file,   line, found, i, n, list) {
            if (!(file in text)) {
                text[file] = ""
                while ((getline line < (here file)) > 0)
                    if (line ~ /^#include "[a-z_]*\.[ch]"/ || line ~ /^#define TWILL_/ || line ~ /^extern / || line ~ /EXPLORE-FLAGS:/)
                        text[file] = text[file] line "\n"
                close(here file)
            }
            n = split(text[file], list, "\n")
            for (i = 1; i < n; i++) {
                line = list[i]
                if (line ~ /^#include "twill/)
                    headers = headers (index(headers, line) ? "" : line "\n")
                else if (line ~ /^#include/) {
                    found = line
                    gsub(/^#include "|".*/, "", found)
                    if (found != "explore.h" && found != "linear.h" && !(found in taken)) {
                        taken[found] = 1
                        files = files " " here found
                        take(found)
                    }
                } else if (line ~ /^#define TWILL_/ && line !~ /TWILL_IMPLEMENTATION/) {
                    found = line
                    gsub(/^#define |[ (].*/, "", found)
                    if (found in set) continue # an #ifndef stands before this one
                    set[found] = 1
                    macros = macros line "\n"
                    if (match(line, /[a-z_]+\([a-z]*\)$/) && !index(externs, substr(line, RSTART, index(substr(line, RSTART), "("))))
                        own = 1
                } else if (line ~ /^extern /) {
                    sub(/ *\/\*.*/, "", line)
                    externs = externs line "\n"
                } else if (line ~ /EXPLORE-FLAGS:/ && flags == "") {
                    flags = line
                    gsub(/^.*EXPLORE-FLAGS: *| *\*\/.*/, "", flags)
                }
            }
        }
        function sum(words,   i, h) {
            h = 5381
            for (i = 1; i <= length(words); i++)
                h = (h * 33 + index(letters, substr(words, i, 1))) % 2147483647
            return h
        }
        BEGIN {
            letters = "\n !\"#()*+,-./0123456789=ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
            for (i = 1; i < ARGC; i++) {
                file = ARGV[i]
                sub(/.*\//, "", file)
                headers = macros = flags = externs = files = ""
                own = 0
                split("", taken)
                split("", set)
                take(file)
                kit = own || headers == "" ? "-" : sum(headers externs macros flags)
                used = headers
                gsub(/#include "/, " patterns/", used)
                gsub(/"[^\n]*\n/, "", used)
                if (used == "") used = " patterns/*.h" # by way of an example
                sub(/\.c$/, "", file)
                print file, kit used files
                if (kit != "-" && !(kit in written)) {
                    written[kit] = 1
                    if ((getline line < (kits kit ".c")) <= 0) { # its name is a sum over it: what is there is right
                        print flags >(kits kit ".flags")
                        print "#include <stddef.h>\n" externs macros "#define TWILL_IMPLEMENTATION\n" headers >(kits kit ".c")
                        close(kits kit ".flags")
                    }
                    close(kits kit ".c")
                }
            }
        }' "$@" >"$W/plan.$$" && mv "$W/plan.$$" "$W/plan"
    [ -e "$W/kits/borrow.h" ] ||
        echo '#define TWILL_API extern inline __attribute__((gnu_inline))' >"$W/kits/borrow.h"
    export PLANNED=1
}

planned() {  # scenario: sets $kit, $headers and $parts, what it includes
    [ -n "${PLANNED:-}" ] || plan $here/scenarios/*.c
    # shellcheck disable=SC2046 # words
    set -- $(grep "^$(basename "$1" .c) " "$W/plan")
    kit=$2 headers= parts=
    shift 2
    for part; do
        case $part in
        patterns/*) headers="$headers $part" ;;
        *) parts="$parts $part" ;;
        esac
    done
}

# A kit on a back end, compiled once: most of what a scenario costs to build. $1: back end, $2: kit, then its headers
build_kit() {
    object=$W/$1/$2.o
    backend=$1 kit_=$2
    shift 2
    [ ! -e "$object" ] || [ -n "$(find "$@" "$W/kits/$kit_.c" $here/explore-cc $here/redirect.txt -newer "$object")" ] || return 0
    mkdir -p "$W/$backend"
    # shellcheck disable=SC2046 # flags
    $here/explore-cc -w $(backend_flags "$backend") $(cat "$W/kits/$kit_.flags") ${INCLUDE:--Ipatterns} -c -o "$object.$$" \
        "$W/kits/$kit_.c" &&
        mv "$object.$$" "$object"
}

# A scenario sees all of its headers, and what the kit has of them is not compiled again (gnu_inline: a
# definition to look at; nothing inlined, or gcc keeps all that it might inline).
build_scenario() {  # back end, file
    target=$W/$1/$(basename "$2" .c)
    mkdir -p "$W/$1"
    planned "$2"
    # shellcheck disable=SC2086 # files
    newest "$target" "$2" $headers $parts $(ls "$W/kits/$kit.c" 2>/dev/null) && return 0
    flags=$(told "$2" EXPLORE-FLAGS)
    # shellcheck disable=SC2046,SC2086 # flags
    if [ "$kit" != - ]; then
        build_kit "$1" "$kit" $headers &&
            $here/explore-cc -w -fno-inline -include "$W/kits/borrow.h" $(backend_flags "$1") $flags -Ipatterns -o "$target" "$2" \
                "$W/$1/$kit.o"
    else
        $here/explore-cc -w -DTWILL_STATIC $(backend_flags "$1") $flags -Ipatterns -o "$target" "$2"
    fi >"$target.log" 2>&1 && return 0
    rm -f "$target"
    head -n 12 "$target.log"
    return 1
}

# ---- the ledger: what has passed ----
# $LEDGER has a line for each search that ended without a failure: "KEY random FIRST LAST", the schedules of seed 1
# with these numbers, likewise pct; "KEY tree SCHEDULES", a piece of the tree, the next one begins where it
# ended; "KEY exhausted SCHEDULES", its last piece. KEY is a sum over the code of the program (the scenario and
# what it has of the library), over its options, and over the explorer: what has changed begins anew, and nothing else does.

write_key() {  # program, scenario: a file beside the program
    [ ! -e "$1.key" ] || [ -n "$(find "$1" "$2" "$W/libexplore.so" -newer "$1.key")" ] || return 0
    objcopy --strip-all -R .note.gnu.build-id "$1" "$1.bare" &&
        echo "$({ cat "$1.bare"; told "$2" EXPLORE; told "$2" EXPLORE-TREE; } | cksum | tr -d ' ').$(cat \
            $here/src/*.[ch] $here/redirect.txt | cksum | cut -d' ' -f1)" >"$1.key"
    rm -f "$1.bare"
}

stands() {  # key: sets $random_done, $pct_done, $tree_done, and $tree: exhausted or not
    # shellcheck disable=SC2046 # words
    set -- $(awk -v key="$1" '$1 == key && $2 == "random" && $3 <= random && $4 > random { random = $4 }
        $1 == key && $2 == "pct" && $3 <= pct && $4 > pct { pct = $4 }
        $1 == key && ($2 == "tree" || $2 == "exhausted") { tree += $3 }
        $1 == key && $2 == "exhausted" { done = 1 }
        END { print random + 0, pct + 0, tree + 0, done ? "exhausted" : "not" }' "$LEDGER" 2>/dev/null)
    random_done=${1:-0} pct_done=${2:-0} tree_done=${3:-0} tree=${4:-not}
}

now_ms() {
    date +%s%3N
}

# ---- one scenario on one back end ----
# Random and PCT up to $RANDOM_RUNS and $PCT_RUNS, the tree up to $TREE_RUNS; with a $LEDGER from where they were left. Each
# goes on for a piece of time: $EACH seconds, or its part of $BUDGET milliseconds; with neither, piece after piece to its
# end. Prints one line that ends with `passed` or `FAILED`, before it the report of a failure.

PIECE=30 # seconds, at most

search() {  # strategy, options: 0 and $count schedules more, or 1 and a report
    seconds=${EACH:-$PIECE}
    if [ -n "${BUDGET:-}" ]; then
        left=$(((begun + BUDGET - $(now_ms)) / parts))
        [ $left -ge 100 ] || left=100
        [ $left -lt $((PIECE * 1000)) ] || left=$((PIECE * 1000))
        seconds=$((left / 1000)).$(printf %03d $((left % 1000)))
    fi
    # shellcheck disable=SC2086 # options
    timeout -k 2 $((${seconds%.*} + 60)) "$program" --strategy=$* $options --seconds=$seconds >"$log.one" 2>&1
    status=$?
    cat "$log.one" >>"$log"
    count=$(sed -n 's/^[a-z]*: \([0-9]*\) schedules, .*/\1/p' "$log.one" | tail -n 1)
    [ $status -ne 0 ] || return 0
    grep -v '^exhaustive: ' "$log.one" | head -n 60
    echo "$name on $backend: --strategy=$* $options: status $status: FAILED"
    return 1
}

enter() {  # words: into the ledger
    [ -z "${LEDGER:-}" ] || echo "$key $*" >>"$LEDGER"
    [ -z "${NEW:-}" ] || echo "$name $backend $*" >>"$NEW"
}

by_number() {  # random or pct, done, goal: sets $reached
    reached=$2
    while [ "$reached" -lt "$3" ]; do
        search "$1 --spurious --first=$reached --schedules=$(($3 - reached))" || return 1
        enter "$1" "$reached" $((reached + count))
        reached=$((reached + count))
        [ -z "${EACH:-}${BUDGET:-}" ] || break
    done
}

by_tree() {
    while [ "$tree" = not ] && [ "$tree_done" -lt "$TREE_RUNS" ]; do
        place=
        [ -z "${LEDGER:-}" ] || { mkdir -p "$W/trees" && place=--resume=$W/trees/$key; }
        search "exhaustive --schedules=$((TREE_RUNS - tree_done)) $TREE_BOUNDS $place" || return 1
        case $(grep -o '[NOT ]*EXHAUSTED' "$log.one" | tail -n 1) in
        EXHAUSTED | ' EXHAUSTED') tree=exhausted ;;
        esac
        tree_done=$((tree_done + count))
        if [ $tree = exhausted ]; then enter exhausted "$count"; else enter tree "$count"; fi
        [ -n "${LEDGER:-}" ] && [ -z "${EACH:-}${BUDGET:-}" ] || break # it would begin anew
    done
}

scenario() {  # back end, file
    name=$(basename "$2" .c) backend=$1
    program=$W/$1/$name
    log=$program.log
    random_done=0 pct_done=0 tree_done=0 tree=not key=
    backends=$(told "$2" EXPLORE-BACKENDS)
    case " ${backends:-$1} " in
    *" $1 "*) ;;
    *) return 0 ;;
    esac
    build_scenario "$1" "$2" || { echo "$name on $1: does not build: FAILED"; return 0; }
    if [ -n "${LEDGER:-}" ]; then
        write_key "$program" "$2"
        key=$(cat "$program.key")
        stands "$key"
    fi
    options="--no-polling $(told "$2" EXPLORE) ${LIMIT:-}"
    begun=$(now_ms)
    : >"$log"
    parts=3
    by_number random "$random_done" "$RANDOM_RUNS" || return 0
    random_done=$reached parts=2
    by_number pct "$pct_done" "$PCT_RUNS" || return 0
    pct_done=$reached parts=1
    by_tree || return 0
    [ $tree = exhausted ] || tree='not exhausted'
    echo "$name on $1: random $random_done, pct $pct_done, $tree in $tree_done: passed"
}

# ---- failing allocations and threads: each line of sweeps.txt ----

sweeps() {  # name
    line=
    build_scenario futex $here/scenarios/"$1".c || { echo "$1: does not build: FAILED"; return 0; }
    for what in $(sed -n "s/^$1 *| *//p" $here/sweeps.txt); do
        if ! timeout -k 2 120 "$W/futex/$1" --sweep="$what" --schedules=$((500 * SCALE)) --spurious \
            >"$W/futex/$1.sweep" 2>&1; then
            cat "$W/futex/$1.sweep"
            echo "$1: --sweep=$what: FAILED"
            return 0
        fi
        line="$line, $(sed -n 's/^sweep: //p' "$W/futex/$1.sweep")"
    done
    echo "$1: ${line#, }: passed"
}

# ---- broken variants of the library: each line of broken.txt must fail ----

broken_line() {  # name: sets $target, $search, $edit, $folder
    line=$(grep "^$1 *|" "${BROKEN:-$here/broken.txt}")
    target=$(echo "$line" | cut -d'|' -f2 | tr -d ' ')
    search=$(echo "$line" | cut -d'|' -f3 | sed -e 's,^ *\([a-z]*\) \([0-9]*\) *$,--strategy=\1 --schedules=\2,')
    edit=$(echo "$line" | sed -e 's/^[^|]*|[^|]*|[^|]*| //')
    folder=$W/broken/$1
}

# Of the headers that its scenario includes; built anew when one of them has changed with the line of broken.txt in it.
build_broken() {  # name
    broken_line "$1"
    file=$here/scenarios/$target.c
    planned "$file"
    mkdir -p "$folder/include"
    rm -f "$folder/applied"
    for header in $headers; do
        copy=$folder/include/${header#patterns/}
        sed -e "$edit" "$header" >"$folder/new"
        cmp -s "$header" "$folder/new" || : >"$folder/applied"
        cmp -s "$copy" "$folder/new" || cp "$folder/new" "$copy"
    done
    rm -f "$folder/new"
    # shellcheck disable=SC2086 # files
    newest "$folder/program" "$folder/include" "$file" $parts && return 0
    rm -f "$folder/program"
    # shellcheck disable=SC2046 # flags
    [ ! -f "$folder/applied" ] || $here/explore-cc -std=c11 -w -DTWILL_STATIC $(told "$file" EXPLORE-FLAGS) -I"$folder/include" \
        -o "$folder/program" "$file" >"$folder/log" 2>&1
}

broken() {  # name
    build_broken "$1"
    if [ ! -f "$folder/applied" ]; then
        echo "broken $1: its line in broken.txt applies to nothing that $target includes: FAILED"
    elif [ ! -x "$folder/program" ]; then
        head -n 5 "$folder/log"
        echo "broken $1: does not build: FAILED"
    elif timeout -k 2 120 "$folder/program" --spurious --expect=fail --no-shrink $(told "$file" EXPLORE) $search \
        >"$folder/log" 2>&1; then
        # printf: some echos take a \n in the words for a new line
        printf '%s\n' "broken $1: $(sed -n 's/^FAILED: //p' "$folder/log" | cut -c 1-70), in schedule$(sed -n \
            's/^in schedule \([0-9]*\),.*/ \1/p' "$folder/log"): passed"
    else
        echo "broken $1: nothing found by $target with $search: FAILED"
    fi
}
