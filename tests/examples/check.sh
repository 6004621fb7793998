#!/bin/sh
# check.sh - every example builds; those that say how are run too: by a comment `TEST-RUN: arguments` in the source,
# in an empty folder, within 300 s, status 0; if FILE.expected stands beside FILE.c, what it prints is that
# (`...` in a line stands for any text). The demo is run on a small tree that it makes itself.
# They are copied without the line that asks for the code of the headers, linked to code that is compiled once, and
# built again when that, a header or a file of theirs is newer; with FULL=1 they are what `make examples` builds.
set -u
CC=${CC:-cc}
BUILD=${BUILD:-build}
MAKE=${MAKE:-make}
root=$(pwd)
W=$root/$BUILD/examples-tests
passed=0 failed=0 skipped=0

pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL examples: $1"; [ ! -s "$W/log" ] || tail -n 15 "$W/log" | sed -e 's/^/  | /'; }

WARN="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Werror"
FLAGS=${FLAGS:--O0}

# build MAIN: links it with the other files of its folder that have no main
build() {
    stem=$W/${1%.c}
    parts=$1
    case $1 in
    examples/*/*) parts="$1 $(grep -L '^int main\b' "${1%/*}"/*.c)" ;;
    esac
    # shellcheck disable=SC2086 # names of files, of which one may define it
    [ "$(cat $parts | grep -c '^#define TWILL_IMPLEMENTATION$')" -eq 1 ] ||
        { echo "$1: error: one of its files must define TWILL_IMPLEMENTATION"; rm -f "$stem"; return; }
    old=
    for source in "$newest" $parts; do [ "$stem" -nt "$source" ] || old=1; done
    [ -n "$old" ] || return 0
    rm -f "$stem"
    for source in $parts $(ls "${1%/*}"/*.h 2>/dev/null); do
        mkdir -p "$W/${source%/*}"
        sed -e 's/^#define TWILL_IMPLEMENTATION$//' "$source" >"$W/$source"
    done
    # shellcheck disable=SC2046,SC2086
    (cd "$W" && $CC -std=c11 $WARN -I"$root/patterns" -pthread $FLAGS -g0 $(cd "$root" && sh tools/needs.sh --cflags $parts) \
        $parts "$root/$BUILD/tests/twill.o" -o "$stem" $(cd "$root" && sh tools/needs.sh --libs $parts) -lm) 2>&1
}

if [ "${1:-}" = --build ]; then
    build "$2"
    exit 0
fi
mkdir -p "$W"
$CC -std=c11 -O1 tests/snippets/snippets.c -o "$W/compare" || { echo "0 passed, 1 failed"; exit 1; }
sources=$(ls examples/*.c examples/*/*.c 2>/dev/null)
[ -n "$sources" ] || { echo "SKIP examples: there are none"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
mains=$(grep -l '^int main\b' $sources)
met=$(sh tools/needs.sh --met $mains)
if [ -n "${FULL:-}" ]; then
    programs=$root/$BUILD
    $MAKE -k examples BUILD="$BUILD" >"$W/build.log" 2>&1
else
    programs=$W
    [ -f "$BUILD/tests/twill.o" ] || $MAKE -s BUILD="$BUILD" "$BUILD/tests/twill.o" || { echo "0 passed, 1 failed"; exit 1; }
    newest=$(ls -td "$0" patterns patterns/*.h examples/*/ examples/*/*.h "$BUILD/tests/twill.o" | head -n 1)
    export CC BUILD FLAGS newest
    printf '%s\n' $met | xargs -n 1 -P "${JOBS:-2}" sh "$0" --build >"$W/build.log"
fi
# Whether $program, of $source, does what it shall; else $wrong and the log say what it did.
runs() {
    rm -rf "$W/here"
    mkdir "$W/here"
    # shellcheck disable=SC2086 # arguments, not one argument
    (cd "$W/here" && eval "set -- $run" && exec timeout -k 2 300 "$program" "$@" </dev/null) >"$W/out" 2>"$W/log"
    status=$?
    wrong="ends with status $status"
    if [ $status -ne 0 ]; then tail -n 5 "$W/out" >>"$W/log"; return 1; fi
    wrong="prints something else"
    [ ! -f "${source%.c}.expected" ] || "$W/compare" --same "${source%.c}.expected" "$W/out" >"$W/log"
}

# With SECOND_LOOK (see tests/run.sh), one that a busy machine held up is looked at once more; not what a signal or the
# limit ended.
again() {
    [ -n "${SECOND_LOOK:-}" ] && [ $status -lt 124 ] || return
    for try in 1 2 3 4 5; do runs || return; done
}

for source in $mains; do
    case " $(echo $met) " in
    *" $source "*) ;;
    *) sh tools/needs.sh --missing "$source" | sed -e 's/^skipped:/SKIP/'; skipped=$((skipped + 1)); continue ;;
    esac
    program=$programs/${source%.c}
    grep -e "${source%/*}/.*error" -e "undefined reference" "$W/build.log" >"$W/log"
    if [ ! -x "$program" ]; then fail "$source does not build"; continue; fi
    if [ "$source" = examples/demo/crunch.c ]; then
        run="--generate --quick --out ."
    elif grep -q 'TEST-RUN:' "$source"; then
        run=$(sed -n 's/^.*TEST-RUN: *//p' "$source" | sed -e 's/ *\*\/$//' | head -n 1)
    else
        pass
        continue
    fi
    if runs; then
        pass
    elif cp "$W/log" "$W/log.first" && first=$wrong && again; then
        echo "SKIP examples: $source: UNSTEADY: it $first at first, and then was right five times"
        skipped=$((skipped + 1))
    else
        cp "$W/log.first" "$W/log"
        fail "$source $first"
    fi
done
printf '%d passed, %d failed' $passed $failed
[ $skipped -eq 0 ] || printf ', %d skipped' $skipped
printf '\n'
[ $failed -eq 0 ]
