#!/bin/sh
# coverage.sh - `make coverage`: which lines and branches of patterns/src do the test programs take? gcov counts
# them in the parts themselves (the headers in patterns/ are copies), on the back ends futex, no-futex and
# no-futex-pthread, added up. T=name: only test programs whose name contains it; BACKENDS=futex: only that one. What is never taken is
# in build/coverage/never; exceptions.txt has the reasons. What only schedules reach is the explorer's work,
# not gcov's: its counters would be shared variables of the program.
set -u
CC=${CC:-gcc}
BUILD=${BUILD:-build}
here=tests/explore/coverage
top=$(pwd)
W=$top/$BUILD/coverage
command -v gcov >/dev/null || { echo "SKIP coverage: gcov is missing"; exit 0; }
rm -rf "$W"
mkdir -p "$W/include"
for header in patterns/src/*.h; do
    name=$(basename "$header")
    [ "$name" = twill.h ] || echo "#include \"$name\"" >"$W/include/twill_$name"
done
# A child that leaves by _exit must write its counters, too.
cat >"$W/coverage.h" <<'END'
#include <unistd.h>
extern void __gcov_dump(void);
#define _exit(status) (__gcov_dump(), _exit(status))
END
flags_of() {
    case $1 in
    futex) ;;
    no-futex) echo -DTWILL_NO_FUTEX ;;
    no-futex-pthread) echo -DTWILL_NO_FUTEX -DTWILL_USE_PTHREAD ;;
    esac
}
one() {  # back end, test
    folder=$W/$1-$(basename "$2" .c)
    mkdir -p "$folder"
    # shellcheck disable=SC2046 # flags
    $CC -std=c11 -O0 -w --coverage -fprofile-update=atomic $(flags_of "$1") '-DTWILL_ASSERT(c)=((void)0)' \
        -include "$W/coverage.h" -I"$W/include" -I"$top/patterns/src" -I"$top/tests" -pthread \
        -o "$folder/program" "$top/$2" -lm >"$folder/log" 2>&1 || { echo "$2 on $1 does not build"; return; }
    timeout -k 2 180 "$folder/program" >"$folder/log" 2>&1 || echo "$2 on $1: $(tail -n 1 "$folder/log")"
    (cd "$folder" && gcov -b -c ./*.gcda >gcov.log 2>&1)
    rm -f "$folder"/program
}
echo "${BACKENDS:-futex no-futex no-futex-pthread}" >"$W/backends"
for backend in ${BACKENDS:-futex no-futex no-futex-pthread}; do
    for test in tests/test_*.c; do
        case $test in
        *test_harness* | *test_demo*) continue ;;
        *"${T:-}"*) one "$backend" "$test" ;;
        esac
    done
done
find "$W" -name '*.gcov' -print0 | xargs -0 cat | awk -v exceptions="$here/exceptions.txt" -v never="$W/never" \
    -f $here/merge.awk | tee "$W/summary"
[ -z "${STRICT:-}" ] || ! grep -q . "$W/never"
