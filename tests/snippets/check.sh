#!/bin/sh
# check.sh - every C example in README.md, docs/ and the manuals of the headers compiles without a warning; the whole
# programs also run, within 20 s, and print what the text says they print. The rules: snippets.c, CONTRIBUTING.md.
set -u
CC=${CC:-cc}
BUILD=${BUILD:-build}
W=$BUILD/snippets
FLAGS="-std=c11 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Werror -O0 -Ipatterns -pthread"

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
        # An example may use what POSIX adds; it must not need the switch for the header itself.
        if [ ! -x "$stem" ] || [ -n "$(find "$1" patterns/*.h -newer "$stem" 2>/dev/null | head -1)" ]; then
            case $3 in  # the example of a manual: beside its header, and that alone
            patterns/twill_*.h*)
                rm -rf "$stem.alone"; mkdir -p "$stem.alone"
                cp "${3%%:*}" "$stem.alone/"
                flags=$(echo "$FLAGS" | sed "s|-Ipatterns|-I$stem.alone|") ;;
            *) flags=$FLAGS ;;
            esac
            # shellcheck disable=SC2086
            $CC $flags "$1" -o "$stem" -lm >"$log" 2>&1 || { bad "$3" "does not compile"; return; }
        fi
        rm -rf "$stem.d"
        mkdir -p "$stem.d"
        program=$(pwd)/$stem
        (cd "$stem.d" && timeout -k 2 20 "$program" </dev/null) >"$stem.out" 2>"$log" ||
            { echo "exit status $?" >>"$log"; bad "$3" "fails"; return; }
        if [ -f "$stem.expected" ]; then
            "$W/take" --same "$stem.expected" "$stem.out" >"$log" || { bad "$3" "prints something else"; return; }
        fi ;;
    *)
        $CC $FLAGS -Wno-unused -Wno-strict-prototypes -fsyntax-only "$1" >"$log" 2>&1 || { bad "$3" "does not compile"; return; } ;;
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
$CC -std=c11 -O1 tests/snippets/snippets.c -o "$W/take" || { echo "0 passed, 1 failed"; exit 1; }
files=$(ls README.md docs/*.md docs/*/*.md patterns/twill*.h 2>/dev/null)
"$W/take" "$W" $files >"$W/list" || { echo "0 passed, 1 failed"; exit 1; }
jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
export CC BUILD
tr '\n' '\0' <"$W/list" | xargs -0 -n 1 -P "$jobs" sh "$0" --one
passed=$(grep -c pass "$W/counts")
failed=$(grep -c fail "$W/counts")
examples=$(grep -cv '^- none' "$W/list")
# A header without an example is a failure too, so there may be more of them than examples.
if [ $((passed + failed)) -lt "$examples" ]; then failed=$((examples - passed)); fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
