#!/bin/sh
# check.sh - every C example in README.md, docs/ and the manuals of the headers compiles without a warning; the whole
# programs also run, within 200 s, and print what the text says they print. The rules: snippets.c, CONTRIBUTING.md. The
# names of twill in the texts are those of the headers.
# Programs are linked to code that is compiled once, and built again when that, a header or their text is newer; FULL=1
# compiles each just as it stands. The example of a manual is compiled in a folder with its header alone.
set -u
CC=${CC:-cc}
BUILD=${BUILD:-build}
W=$BUILD/snippets${FULL:+-full}
FLAGS=${FLAGS:--O0}
WARN="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Werror"
COMPILE="$CC -std=c11 $WARN $FLAGS -g0 -pthread"

fresh() { [ -z "${FULL:-}" ] && [ "$1" -nt "$2" ] && [ "$1" -nt "$newest" ]; }  # what was made, of what

# An example may use what POSIX adds; it must not need the switch for the header itself.
build() {  # path of the .c file, where it stands
    ! fresh "$stem" "$1" || return 0
    beside=patterns
    case $2 in
    patterns/twill_*.h*)
        beside=$stem.alone
        rm -rf "$beside"
        mkdir -p "$beside"
        cp "${2%%:*}" "$beside/" ;;
    esac
    if [ -n "${FULL:-}" ]; then
        $COMPILE -I"$beside" "$1" -o "$stem" -lm
        return
    fi
    if grep -q '^#include "twill' "$1" && ! grep -q '^#define TWILL_IMPLEMENTATION$' "$1"; then
        echo "nothing in it defines TWILL_IMPLEMENTATION"
        return 1
    fi
    sed -e 's/^#define TWILL_IMPLEMENTATION$//' "$1" >"$stem.short.c"
    $COMPILE -I"$beside" "$stem.short.c" "$BUILD/tests/twill.o" -o "$stem" -lm
}

runs() {  # whether the program $stem does what it shall; else $wrong and $log say what it did
    rm -rf "$stem.d"
    mkdir -p "$stem.d"
    program=$(pwd)/$stem wrong=fails
    (cd "$stem.d" && timeout -k 2 200 "$program" </dev/null) >"$stem.out" 2>"$log"
    status=$?
    [ $status -eq 0 ] || { echo "exit status $status" >>"$log"; return 1; }
    wrong="prints something else"
    [ ! -f "$stem.expected" ] || "$W/take" --same "$stem.expected" "$stem.out" >"$log"
}

# With SECOND_LOOK (see tests/run.sh), one that a busy machine held up is looked at once more; not what a signal or the
# limit ended.
again() {
    [ -n "${SECOND_LOOK:-}" ] && [ $status -lt 124 ] || return
    first=$wrong
    for try in 1 2 3 4 5; do runs || { wrong=$first; return 1; }; done
    wrong=$first
}

one() {  # path of the .c file, kind, where it stands
    stem=${1%.c}
    log=$stem.log
    case $2 in
    none)
        case $3 in  # a header must show an example; a page of text need not
        patterns/twill_*.h) echo "FAIL snippets: $3: no EXAMPLE: in its manual"; echo fail >>"$W/counts" ;;
        esac
        return ;;
    program)
        build "$1" "$3" >"$log" 2>&1 || { bad "$3" "does not compile"; return; }
        if ! runs; then
            cp "$log" "$log.first"
            if ! again; then
                cp "$log.first" "$log"
                bad "$3" "$wrong"
                return
            fi
            echo "SKIP snippets: $3: UNSTEADY: it $wrong at first, and then was right five times"
            echo unsteady >>"$W/counts"
            return
        fi ;;
    *)
        if ! fresh "$stem.compiled" "$1"; then
            $COMPILE -Ipatterns -Wno-unused -Wno-strict-prototypes -fsyntax-only "$1" >"$log" 2>&1 || { bad "$3" "does not compile"; return; }
            : >"$stem.compiled"
        fi ;;
    esac
    echo pass >>"$W/counts"
}

bad() {
    { echo "FAIL snippets: $1: $2"; head -n 12 "$log" | sed -e 's/^/  | /'; } >"$stem.report"
    cat "$stem.report"
    echo fail >>"$W/counts"
}

if [ "${1:-}" = --one ]; then
    one $2
    exit 0
fi

mkdir -p "$W"
rm -f "$W"/*.expected "$W/counts"
: >"$W/counts"
[ -n "${FULL:-}" ] || [ -f "$BUILD/tests/twill.o" ] || ${MAKE:-make} -s BUILD="$BUILD" "$BUILD/tests/twill.o" || { echo "0 passed, 1 failed"; exit 1; }
$CC -std=c11 -O1 tests/snippets/snippets.c -o "$W/take" || { echo "0 passed, 1 failed"; exit 1; }
files=$(ls README.md docs/*.md docs/*/*.md patterns/twill*.h 2>/dev/null)
"$W/take" "$W" $files >"$W/list" || { echo "0 passed, 1 failed"; exit 1; }
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)}
newest=$(ls -td "$0" patterns patterns/*.h "$BUILD/tests/twill.o" 2>/dev/null | head -n 1)
export CC BUILD FLAGS newest
tr '\n' '\0' <"$W/list" | xargs -0 -n 1 -P "$jobs" sh "$0" --one
passed=$(grep -c pass "$W/counts")
failed=$(grep -c fail "$W/counts")
skipped=$(grep -c unsteady "$W/counts")
examples=$(grep -cv '^- none' "$W/list")
# A header without an example is a failure too, so there may be more of them than examples.
if [ $((passed + failed + skipped)) -lt "$examples" ]; then failed=$((examples - passed - skipped)); fi

# A name in the text that no header has is an old one, or a slip.
set -- README.md docs/*.md
awk '{
        while (match($0, /(twill|TWILL)_[A-Za-z0-9_]*[A-Za-z0-9]/)) {
            name = substr($0, RSTART, RLENGTH)
            $0 = substr($0, RSTART + RLENGTH)
            if (FNR == NR) known[name]
            else if (!(name in known)) unknown[FILENAME] = unknown[FILENAME] " " name
        }
    }
    END { for (file in unknown) print "FAIL snippets: " file ": no header has" unknown[file] }' patterns/twill.h "$@" >"$W/unknown" ||
    echo "FAIL snippets: the names could not be compared" >>"$W/unknown"
cat "$W/unknown"
wrong=$(($(wc -l <"$W/unknown")))
failed=$((failed + wrong)) passed=$((passed + $# - wrong))
printf '%d passed, %d failed' "$passed" "$failed"
[ "$skipped" -eq 0 ] || printf ', %d skipped' "$skipped"
echo
[ "$failed" -eq 0 ]
