#!/bin/sh
# check.sh - every example builds; those that say how are run too: by a comment `TEST-RUN: arguments` in the source,
# in an empty folder, within 60 s, status 0; if FILE.expected stands beside FILE.c, what it prints is that
# (`...` in a line stands for any text). The demo is run on a small tree that it makes itself.
set -u
CC=${CC:-cc}
BUILD=${BUILD:-build}
MAKE=${MAKE:-make}
root=$(pwd)
W=$root/$BUILD/examples-tests
passed=0 failed=0 skipped=0

pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL examples: $1"; [ ! -s "$W/log" ] || tail -n 15 "$W/log" | sed -e 's/^/  | /'; }

mkdir -p "$W"
$CC -std=c11 -O1 tests/snippets/snippets.c -o "$W/compare" || { echo "0 passed, 1 failed"; exit 1; }
sources=$(ls examples/*.c examples/*/*.c 2>/dev/null)
[ -n "$sources" ] || { echo "SKIP examples: there are none"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
$MAKE -k examples BUILD="$BUILD" >"$W/build.log" 2>&1
mains=$(grep -l '^int main\b' $sources)
met=$(sh tools/needs.sh --met $mains)
for source in $mains; do
    case " $(echo $met) " in
    *" $source "*) ;;
    *) sh tools/needs.sh --missing "$source" | sed -e 's/^skipped:/SKIP/'; skipped=$((skipped + 1)); continue ;;
    esac
    program=$root/$BUILD/${source%.c}
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
    rm -rf "$W/here"
    mkdir "$W/here"
    # shellcheck disable=SC2086 # arguments, not one argument
    (cd "$W/here" && eval "set -- $run" && exec timeout -k 2 60 "$program" "$@" </dev/null) >"$W/out" 2>"$W/log"
    status=$?
    if [ $status -ne 0 ]; then tail -n 5 "$W/out" >>"$W/log"; fail "$source: exit status $status"; continue; fi
    if [ -f "${source%.c}.expected" ] && ! "$W/compare" --same "${source%.c}.expected" "$W/out" >"$W/log"; then
        fail "$source prints something else"
        continue
    fi
    pass
done
printf '%d passed, %d failed' $passed $failed
[ $skipped -eq 0 ] || printf ', %d skipped' $skipped
printf '\n'
[ $failed -eq 0 ]
