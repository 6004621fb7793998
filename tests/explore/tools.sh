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
    grep -v -e '^in schedule' -e '^Schedule' -e '^$' -e '^random:' -e '^pct:' -e '^exhaustive:'
}

newest() {  # target: is it newer than the explorer, the headers and these sources?
    target=$1
    shift
    [ -x "$target" ] && [ -z "$(find "$@" $here/src $here/explore.h $here/redirect.txt $here/explore-cc \
        -newer "$target" -type f | head -n 1)" ]
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
        name=$(echo $name) expected=$(echo $expected) words=${words# }
        log=$folder/$name.log
        case "$expected $CC" in
        # clang's instrumentation does not tell a weak compare-and-swap from a strong one
        *gcc*clang*) skipped=$((skipped + 1)); echo "SKIP explore: $name: gcc only"; continue ;;
        esac
        # shellcheck disable=SC2086 # options
        timeout -k 2 60 "$program" $options -- $name >"$log" 2>&1
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

has_library() {  # back end
    [ -e "$W/$1/twill.o" ] && [ -z "$(find patterns/*.h $here/explore-cc $here/redirect.txt -newer "$W/$1/twill.o")" ]
}

# The library, compiled once a back end: most of what a scenario costs to build. $1: back end
build_library() {
    has_library "$1" && return 0
    mkdir -p "$W/$1"
    echo '#define TWILL_API extern inline __attribute__((gnu_inline))' >"$W/$1/borrow.h"
    printf '#define TWILL_IMPLEMENTATION\n#include "twill.h"\n' >"$W/$1/twill.c"
    # shellcheck disable=SC2046 # flags
    $here/explore-cc -w $(backend_flags "$1") -Ipatterns -c -o "$W/$1/twill.o" "$W/$1/twill.c"
}

# Does the scenario, or what it includes, replace something of the library?
has_macros() {  # file
    files=$1
    for _ in 1 2 3; do
        # shellcheck disable=SC2086 # a list of files
        files="$files $(sed -n "s,^#include \"\([a-z_]*\.[ch]\)\".*,$here/scenarios/\1,p" $files 2>/dev/null | sort -u | tr '\n' ' ')"
    done
    # shellcheck disable=SC2086
    grep -h '^#define TWILL_' $files 2>/dev/null | grep -v -q TWILL_IMPLEMENTATION
}

# A scenario sees all of its header, and what the library has of it is not compiled again (gnu_inline: a
# definition to look at; nothing inlined, or gcc keeps all that it might inline). With flags or macros of its
# own it is compiled whole.
build_scenario() {  # back end, file
    target=$W/$1/$(basename "$2" .c)
    mkdir -p "$W/$1"
    newest "$target" "$2" patterns/*.h $here/scenarios/*.h && return 0
    flags=$(told "$2" EXPLORE-FLAGS)
    # shellcheck disable=SC2046,SC2086 # flags
    if [ -z "$flags" ] && has_library "$1" && ! has_macros "$2"; then
        $here/explore-cc -w -fno-inline -include "$W/$1/borrow.h" $(backend_flags "$1") -Ipatterns -o "$target" "$2" \
            "$W/$1/twill.o"
    else
        $here/explore-cc -DTWILL_STATIC $(backend_flags "$1") $flags -Ipatterns -o "$target" "$2"
    fi >"$target.log" 2>&1 && return 0
    head -n 12 "$target.log"
    return 1
}

# One scenario on one back end: random, PCT, exhaustive. Prints one line that ends with `passed` or
# `FAILED`, before it the report of a failure.
scenario() {  # back end, file
    name=$(basename "$2" .c)
    program=$W/$1/$name
    log=$program.log
    backends=$(told "$2" EXPLORE-BACKENDS)
    case " ${backends:-$1} " in
    *" $1 "*) ;;
    *) return 0 ;;
    esac
    build_scenario "$1" "$2" || { echo "$name on $1: does not build: FAILED"; return 0; }
    options="--no-polling $(told "$2" EXPLORE) ${LIMIT:-}"
    line=
    : >"$log"
    for search in "random --spurious --schedules=$RANDOM_RUNS" "pct --spurious --schedules=$PCT_RUNS" \
        "exhaustive --schedules=$TREE_RUNS $TREE_BOUNDS"; do
        # shellcheck disable=SC2086 # options
        timeout -k 2 $((${SECS:-60} + 60)) "$program" --strategy=$search $options >"$log.one" 2>&1
        status=$?
        cat "$log.one" >>"$log"
        if [ $status -ne 0 ]; then
            grep -v '^exhaustive: ' "$log.one" | head -n 90
            echo "$name on $1: --strategy=$search $options: status $status: FAILED"
            return 0
        fi
        done=$(sed -n 's/^[a-z]*: \([0-9]*\) schedules, .*/\1/p' "$log.one" | tail -n 1)
        case $search in
        exhaustive*) case $(grep -o '[NOT ]*EXHAUSTED' "$log.one" | tail -n 1) in
            EXHAUSTED | ' EXHAUSTED') line="$line, exhausted in $done" ;;
            *) line="$line, not exhausted in $done" ;;
            esac ;;
        *) line="$line, ${search%% *} $done" ;;
        esac
    done
    echo "$name on $1: ${line#, }: passed"
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

broken() {  # name
    line=$(grep "^$1 *|" "${BROKEN:-$here/broken.txt}")
    target=$(echo "$line" | cut -d'|' -f2 | tr -d ' ')
    search=$(echo "$line" | cut -d'|' -f3 | sed -e 's,^ *\([a-z]*\) \([0-9]*\) *$,--strategy=\1 --schedules=\2,')
    edit=$(echo "$line" | sed -e 's/^[^|]*|[^|]*|[^|]*| //')
    folder=$W/broken/$1
    rm -rf "$folder"
    mkdir -p "$folder/include"
    for header in patterns/twill*.h; do
        sed -e "$edit" "$header" >"$folder/include/${header#patterns/}"
        cmp -s "$header" "$folder/include/${header#patterns/}" || : >"$folder/applied"
    done
    # shellcheck disable=SC2046 # flags
    if [ ! -f "$folder/applied" ]; then
        echo "broken $1: its line in broken.txt applies to nothing any more: FAILED"
    elif ! $here/explore-cc -std=c11 -w -DTWILL_STATIC $(told $here/scenarios/"$target".c EXPLORE-FLAGS) -I"$folder/include" \
        -o "$folder/program" $here/scenarios/"$target".c >"$folder/log" 2>&1; then
        head -n 5 "$folder/log"
        echo "broken $1: does not build: FAILED"
    elif timeout -k 2 120 "$folder/program" --spurious --expect=fail $search \
        >"$folder/log" 2>&1; then
        echo "broken $1: $(sed -n 's/^FAILED: //p' "$folder/log" | cut -c 1-70), in schedule$(sed -n \
            's/^in schedule \([0-9]*\),.*/ \1/p' "$folder/log"): passed"
    else
        echo "broken $1: nothing found by $target with $search: FAILED"
    fi
}
