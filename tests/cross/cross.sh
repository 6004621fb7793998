#!/bin/sh
# cross.sh - builds the headers and the examples for other systems and processors, by zig, whose clang brings their headers
# and libraries; runs the examples where qemu can. TARGETS: some of those below. ZIG: where it is. It does not show how
# macOS or a BSD runs them.
set -u
ZIG=${ZIG:-zig}
BUILD=${BUILD:-build}
W=$BUILD/cross
TARGETS=${TARGETS:-x86_64-macos aarch64-macos x86_64-freebsd x86_64-netbsd x86_64-openbsd x86_64-windows-gnu
    x86_64-linux-musl aarch64-linux-musl arm-linux-musleabihf x86-linux-musl riscv64-linux-musl}
passed=0 failed=0 skipped=0
command -v "$ZIG" >/dev/null || {
    echo "SKIP cross: zig is missing (ZIG=where it is)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}
mkdir -p "$W"

warnings='-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Werror'

count() {  # 0: it is well; what
    [ "$1" -eq 0 ] && passed=$((passed + 1)) && return
    failed=$((failed + 1))
    echo "FAIL $2"
    head -n 6 "$W/log"
}

# what runs a program for this target here; empty: nothing
runner() {
    case $(uname -m):$1 in
    x86_64:x86_64-linux-* | x86_64:x86-linux-* | aarch64:aarch64-linux-*) echo env ;;
    *-linux-*) command -v "qemu-${1%%-*}" ;;
    esac
}

for target in $TARGETS; do
    back_ends='-O1 -DTWILL_USE_PTHREAD -DTWILL_NO_FUTEX' # -O1: its own
    case $target in *windows*) back_ends=-O1 ;; esac
    for flags in $back_ends; do
        printf '#define TWILL_IMPLEMENTATION\n#include "twill.h"\nint main(void) { return 0; }\n' >"$W/all.c"
        # shellcheck disable=SC2086 # options
        "$ZIG" cc -target "$target" -std=c11 $warnings -Ipatterns $flags -pthread "$W/all.c" -o "$W/program" >"$W/log" 2>&1
        count $? "$target: all headers $flags"
    done
    run=$(runner "$target")
    [ -n "$run" ] || skipped=$((skipped + 1))
    for source in examples/*.c; do
        case $target in *windows*) grep -q -E 'poll\.h|SIGHUP' "$source" && continue ;; esac
        [ -z "$(sh tools/needs.sh --missing "$source")" ] || continue
        # shellcheck disable=SC2086
        "$ZIG" cc -target "$target" -std=c11 -O1 $warnings -Ipatterns -pthread "$source" -o "$W/program" -lm >"$W/log" 2>&1
        count $? "$target: $source"
        [ -n "$run" ] && [ -x "$W/program" ] || continue
        (cd "$W" && timeout -k 5 60 "$run" ./program >log 2>&1)
        count $? "$target: $source, run"
        rm -f "$W/program"
    done
done
[ "$skipped" -eq 0 ] || echo "    skipped: $skipped systems on which nothing could be run here"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
