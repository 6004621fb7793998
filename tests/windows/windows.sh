#!/bin/sh
# windows.sh - what of the library works on Windows: each header, the examples and the test programs, built by
# MinGW-w64, run under Wine. T=name: only test programs whose name contains it. Packages: gcc-mingw-w64-x86-64-posix wine64. It does not show Windows itself.
set -u
CC=x86_64-w64-mingw32-gcc-posix
BUILD=${BUILD:-build}
W=$BUILD/windows
passed=0 failed=0
wine=$(command -v wine64 || command -v wine || ls /usr/lib/wine/wine64 2>/dev/null)
command -v $CC >/dev/null && [ -n "$wine" ] || {
    echo "SKIP windows: $CC or wine is missing (apt install gcc-mingw-w64-x86-64-posix wine64)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}
mkdir -p "$W"
WINEDEBUG=-all WINEPREFIX=${WINEPREFIX:-$(cd "$W" && pwd)/prefix}
export WINEDEBUG WINEPREFIX
"$wine" cmd /c exit >/dev/null 2>&1 # makes the prefix

warnings='-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Werror'
# of the tests: the format that the compiler checks is not that of MinGW's printf
tests="-std=c11 -O1 -g1 -w -Ipatterns -Ipatterns/src -Itests -Itests/windows/include -include sys/wait.h"

build() {  # program, words of the compiler
    program=$W/$1.exe
    shift
    # shellcheck disable=SC2086 # options
    $CC "$@" -o "$program" -pthread -static -lm >"$W/log" 2>&1
}
run() {  # seconds, words of the program
    # shellcheck disable=SC2086 # words
    timeout -k 5 "$1" "$wine" "$program" ${2:-} </dev/null >"$W/raw" 2>&1
    status=$?
    tr -d '\r' <"$W/raw" | tee "$W/log" >"$W/out"
    return $status
}
count() {  # 0: it is well; what
    [ "$1" -eq 0 ] && passed=$((passed + 1)) && return
    failed=$((failed + 1))
    echo "FAIL $2"
    head -n 6 "$W/log"
}

# ---- each header alone, without a warning ----
for header in patterns/twill*.h; do
    printf '#define TWILL_IMPLEMENTATION\n#include "%s"\nint main(void) { return 0; }\n' "${header##*/}" >"$W/alone.c"
    # shellcheck disable=SC2086
    build alone -std=c11 -O1 $warnings -Ipatterns "$W/alone.c"
    count $? "$header: does not build"
done

# ---- the examples that need nothing else of POSIX ----
for source in examples/*.c tests/windows/console.c; do
    name=$(basename "$source" .c)
    grep -q -E 'poll\.h|SIGHUP' "$source" && continue
    build "$name" -std=c11 -O1 -Wall -Wextra -Werror -Ipatterns "$source" && run 60 && [ -s "$W/out" ]
    count $? "$source"
done

# ---- the test programs ----
# shellcheck disable=SC2086
$CC $tests -c -o "$W/twill.o" tests/twill.c >"$W/log" 2>&1
count $? tests/twill.c
# What Windows lacks: forks, signals, a clock() of the processor, a thread that is heard of when it ends in a callback.
cannot() {
    awk '/^TEST\(/ { name = $0; gsub(/^TEST\(|\).*/, "", name) }
        /END_THREAD|thrd_exit|pthread_exit|exit_here|[^a-z]fork\(|ends_thread|end_thread|SIG[A-Z]|[^a-z]clock\(/ { print name }' "$1" | sort -u
}
names='fork|child|end_|ends_|ends$|ended|exit|worker_hooks|none_is_left|are_replaced|told_of_and_not_made'
for source in tests/test_*"${T:-}"*.c; do
    name=$(basename "$source" .c)
    grep -q -E 'sys/(resource|mman|ioctl)\.h|SIGUSR|sigaction|[^a-z]poll\(|pid_t fork|mkdir|thrd_t' "$source" && continue
    # its own code, or that of twill.o
    # shellcheck disable=SC2086
    build "$name" $tests "$source" || build "$name" $tests -DHARNESS_SHARED "$source" "$W/twill.o" ||
        build "$name" $tests -DTWILL_IMPLEMENTATION "$source" || { count 1 "$source: does not build"; continue; }
    cannot "$source" >"$W/cannot"
    run 30 -l
    wanted=$(grep -v -x -F -f "$W/cannot" "$W/out" | grep -v -E "$names")
    [ -n "$wanted" ] || continue
    run 100 "$(echo $wanted)"
    counts=$(tail -n 1 "$W/out" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p')
    [ -n "$counts" ] || { cp "$W/out" "$W/log"; count 1 "$name: no count at its end"; continue; }
    passed=$((passed + ${counts% *})) failed=$((failed + ${counts#* }))
    [ "${counts#* }" -eq 0 ] || cat "$W/out"
    echo "$name: ${counts% *} passed"
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
