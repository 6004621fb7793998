#!/bin/sh
# arm64.sh - the test programs, and the explorer's own tests, on arm64: built by the cross compiler, run under QEMU's
# user emulation. It shows that nothing here is for x86 alone. It does not show weak memory: QEMU on x86 is as strong as
# its host. Packages: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user.
set -u
CC=aarch64-linux-gnu-gcc
BUILD=${BUILD:-build}
W=$BUILD/arm64
root=/usr/aarch64-linux-gnu
passed=0 failed=0 skipped=0
for tool in $CC aarch64-linux-gnu-objcopy qemu-aarch64; do
    command -v $tool >/dev/null && continue
    echo "SKIP arm64: $tool is missing (apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
done
mkdir -p "$W"

# What this emulation cannot: to fork while other threads run (its own locks stay taken), to start itself again.
cannot='fork|child|pool_made_before'
for source in tests/test_*.c; do
    name=$(basename "$source" .c)
    case $name in test_harness | test_demo) continue ;; esac
    program=$W/$name
    if ! $CC -std=c11 -O1 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -Ipatterns -Ipatterns/src -Itests \
        "$source" -o "$program" -static -pthread -lm >"$program.log" 2>&1; then
        echo "FAIL $name: does not build"
        head -n 5 "$program.log"
        failed=$((failed + 1))
        continue
    fi
    timeout -k 5 300 qemu-aarch64 "$program" -t 250 >"$program.log" 2>&1 </dev/null
    # a test that fails while the machine is emulated gets another chance alone: times are ten times as long
    for test in $(sed -n 's/^FAIL //p' "$program.log" | grep -v -E "$cannot"); do
        timeout -k 5 300 qemu-aarch64 "$program" -t 250 "$test" >"$program.again" 2>&1 </dev/null && continue
        cat "$program.again"
        failed=$((failed + 1))
    done
    count=$(tail -n 1 "$program.log" | sed -n 's/^\([0-9]*\) passed.*/\1/p')
    [ -n "$count" ] || { echo "FAIL $name: no count at its end"; tail -n 5 "$program.log"; failed=$((failed + 1)); }
    passed=$((passed + ${count:-0}))
    echo "$name: ${count:-0} passed"
done

here=tests/explore
export CC EXPLORE_BUILD="$W/explore" OBJCOPY=aarch64-linux-gnu-objcopy
. $here/tools.sh
if $here/explore-cc -o "$W/corpus.arm64" $here/corpus/*.c; then
    printf '#!/bin/sh\nexec qemu-aarch64 -L %s %s "$@"\n' $root "$W/corpus.arm64" >"$W/corpus"
    chmod +x "$W/corpus"
    cases "$W/corpus" "$W/cases"
else
    echo "FAIL explorer: does not build"
    failed=$((failed + 1))
fi
total
