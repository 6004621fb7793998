#!/bin/sh
# check.sh - the program that makes the headers: what it writes, and each thing that it refuses, with the line. Then what
# `make install` copies, and `make uninstall` removes.
set -u
CC=${CC:-cc}
BUILD=${BUILD:-build}
W=$BUILD/amalgamate-tests
passed=0 failed=0

rm -rf "$W"
mkdir -p "$W"
root=$PWD
$CC -std=c11 -g -O1 patterns/src/amalgamate.c -o "$W/amalgamate" || { echo "0 passed, 1 failed"; exit 1; }
cd "$W" || exit 1
echo "Do what you like." >LICENSE

pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL amalgamate: $1"; [ -f log ] && sed -e 's/^/  | /' log; }
check() { label=$1; shift; if "$@" >log 2>&1; then pass; else fail "$label"; fi; }

# A fresh set of sources: a pattern on an engine part on a base part.
fresh() {
    rm -rf src out
    mkdir -p src/base src/engine out
    printf '#ifndef TWILL_VERSION_TEXT\n#define TWILL_VERSION_TEXT "1.2.3"\n#endif\n' >src/base/version.h
    printf '#ifndef BASE_H\n#define BASE_H\n#include "base/version.h"\ntypedef int word;\n#endif\n' >src/base/base.h
    printf '#ifndef ENGINE_H\n#define ENGINE_H\n#include "base/base.h"\nstatic word engine;\n#endif\n' >src/engine/engine.h
    for name in one two; do
        cat >src/$name.h <<END
/* $name: a pattern. #include "not/this.h"
#include "nor/this.h"
*/
#include "base/base.h"
#ifndef ${name}_H
#define ${name}_H
word $name(void);
#endif
#ifdef TWILL_IMPLEMENTATION
#ifndef ${name}_CODE
#define ${name}_CODE
#include "engine/engine.h"
const char *text_$name = "/*"; /* a comment that begins in a string ends nothing */
word $name(void) { return engine; }
#endif
#endif
END
    done
    printf '/* all */\n#include "one.h"\n#include "two.h"\n' >src/twill.h
}
amalgamate() { ./amalgamate "$@" src out LICENSE src/one.h src/two.h src/twill.h; }

# refused LABEL WHERE WHAT: it fails, and says where and why
refused() {
    if amalgamate >log 2>&1; then fail "$1: not refused"
    elif grep -q "^$2: .*$3" log; then pass
    else fail "$1: wrong words"; fi
}
occurs() { [ "$(grep -c -- "$1" "$2")" -eq "$3" ]; }
# order FILE PATTERN PATTERN...: the first lines that match come in this order
order() {
    file=$1 last=0
    shift
    for pattern; do
        line=$(grep -n -m 1 -- "$pattern" "$file")
        line=${line%%:*}
        [ -n "$line" ] && [ "$line" -gt "$last" ] || { echo "$pattern: line ${line:-none} after $last"; return 1; }
        last=$line
    done
}
unchanged() { before=$(ls -l --time-style=full-iso out 2>/dev/null || ls -l out); amalgamate; [ "$before" = "$(ls -l --time-style=full-iso out 2>/dev/null || ls -l out)" ]; }

fresh
check "it runs" amalgamate
check "names" test -f out/twill_one.h -a -f out/twill_two.h -a -f out/twill.h
check "first line: name, version, licence" grep -q '^/\* twill_one.h - twill 1.2.3 - SPDX-License-Identifier: MIT OR Unlicense' out/twill_one.h
check "second line: generated, and by what" order out/twill_one.h 'twill_one.h - ' 'GENERATED from patterns/src/one.h .*make headers'
check "the licence at the end" sh -c 'tail -n 2 out/twill_one.h | head -n 1 | grep -qx "Do what you like."'
check "each part once" occurs 'typedef int word;' out/twill.h 1
check "parts keep their guards" order out/twill_one.h '#ifndef BASE_H' 'typedef int word' '#ifndef one_H' 'word one(void);' '#ifdef TWILL_IMPLEMENTATION' '#ifndef one_CODE' '#ifndef ENGINE_H'
check "no code before a declaration in twill.h" order out/twill.h 'word one(void);' 'word two(void);' '#ifdef TWILL_IMPLEMENTATION' 'static word engine' 'return engine'
check "an include in a comment stays" occurs 'nor/this.h' out/twill_one.h 1
check "no quoted include is left outside comments" sh -c '! grep -v this.h out/twill.h | grep "include \""'
for order in "one two" "two one" "twill_ one"; do
    set -- $order
    printf '#include "out/twill_%s.h"\n#define TWILL_IMPLEMENTATION\n#include "out/twill_%s.h"\n#include "out/twill_%s.h"\nint main(void) { return one() + %s(); }\n' \
        "${1%_}" "$2" "${1%_}" "$2" | sed 's/twill_twill/twill/' >user.c
    check "a user: $order" sh -c "$CC -std=c11 user.c -o user && ./user"
done
check "nothing is written twice" unchanged
check "--check: all fresh" amalgamate --check
echo '/* more */' >>src/engine/engine.h
amalgamate --check >log 2>&1 && fail "--check: stale, not noticed" || { grep -q 'twill_one.h: stale: run `make headers`' log && pass || fail "--check: wrong words"; }
check "--check writes nothing" occurs '/\* more \*/' out/twill_one.h 0
check "stale ones are written" sh -c './amalgamate src out LICENSE src/one.h && grep -q more out/twill_one.h'
rm out/twill_two.h
amalgamate --check >log 2>&1 && fail "--check: missing, not noticed" || pass

fresh; echo '#include "base/none.h"' >>src/one.h
refused "a missing part" src/one.h:17 'cannot read "src/base/none.h"'
fresh; printf '#ifdef TWILL_IMPLEMENTATION\n#include "base/late.h"\n#endif\n#include "base/late.h"\n' >>src/one.h; echo 'int late;' >src/base/late.h
refused "a part that would vanish" src/one.h:20 'first inlined under `#ifdef TWILL_IMPLEMENTATION` and is needed outside'
fresh; printf '#ifdef X\n#include "base/late.h"\n#endif\n#include "base/late.h"\n' >>src/one.h; echo 'int late;' >src/base/late.h
refused "a part that would vanish under any condition" src/one.h:20 'first inlined under `#ifdef X`'
fresh; printf '#ifdef X\n#include "base/late.h"\n#else\n#include "base/late.h"\n#endif\n' >>src/one.h; echo 'int late;' >src/base/late.h
refused "a part in the other branch" src/one.h:20 'first inlined under `#ifdef X`'
fresh; printf '#ifndef G\n#define G\n#include "base/late.h"\n#endif\n#include "base/late.h"\n' >>src/one.h; echo 'int late;' >src/base/late.h
check "a guard is no such condition" amalgamate
fresh; printf '#ifndef G\n#define G\n#ifdef TWILL_IMPLEMENTATION\nint x;\n#endif\n#endif\n' >>src/one.h
refused "an implementation inside a guard" src/one.h:19 'inside the guard #ifndef G'
fresh; sed -i.bak 's|typedef int word;|#include "engine/engine.h"|' src/base/base.h
refused "an include that goes up" src/base/base.h:4 '"engine/engine.h" stands above'
fresh; echo '#include "two.h"' >>src/one.h
refused "a pattern that includes a pattern" src/one.h:17 'a pattern includes no other pattern'
fresh; echo '#include "engine/engine.h"' >>src/engine/engine.h
refused "a part that includes itself" src/engine/engine.h:6 'includes itself'
fresh; echo '#if X' >>src/base/base.h
refused "#if without #endif" src/base/base.h:6 'without #endif'
fresh; echo '#endif' >>src/base/base.h
refused "#endif without #if" src/base/base.h:6 '#endif without #if'
fresh; echo '#else' >>src/base/base.h
refused "#else without #if" src/base/base.h:6 '#else without #if'
fresh; printf 'int crlf;\r\n' >>src/base/base.h
refused "CR" src/base/base.h:6 'a CR'
fresh; printf 'int x;' >>src/base/base.h
refused "a last line without its end" src/base/base.h:6 'the last line does not end'
fresh; echo '/* open' >>src/base/base.h
refused "a comment that does not end" src/base/base.h:6 'a comment does not end'
fresh; echo '*/' >>LICENSE
refused "a licence that ends the comment" LICENSE 'the end of a comment'
echo "Do what you like." >LICENSE
fresh; rm src/base/version.h
refused "no version" src/base/version.h 'cannot read'
fresh; rm -rf out
refused "no folder to write to" out/twill_one.h 'cannot write'
./amalgamate >log 2>&1; [ $? -eq 2 ] && grep -q '^usage:' log && pass || fail "usage"

# ---- make install ----

here=$PWD prefix=/usr/twill
made() { (cd "$root" && env -u MAKEFLAGS -u MFLAGS make -s "$@" BUILD="$BUILD" CC="$CC" DESTDIR="$here/dest" PREFIX=$prefix); }
pc="dest$prefix/share/pkgconfig/twill.pc"
flags() { PKG_CONFIG_PATH=dest$prefix/share/pkgconfig PKG_CONFIG_SYSROOT_DIR=$here/dest pkg-config "$@" twill; }
check "install" made install
(cd "$root/patterns" && ls *.h) >wanted
(cd "dest$prefix/include" && ls) >copied
check "every header, and nothing else" cmp wanted copied
version=$(sed -n 's/^#define TWILL_VERSION_TEXT "\(.*\)".*/\1/p' "$root/patterns/src/base/version.h")
check "twill.pc: version and prefix" order "$pc" "^prefix=$prefix\$" "^Version: $version\$" '^Cflags: .*-pthread' '^Libs: -pthread'
printf '#define TWILL_IMPLEMENTATION\n#include <twill_rate_limiter.h>\nint main(void) { return twill_now() < 0; }\n' >user.c
if command -v pkg-config >/dev/null; then
    check "a program by pkg-config" sh -c "$CC -std=c11 $(flags --cflags 2>&1) user.c $(flags --libs 2>&1) -o user && ./user"
else
    check "a program of what was installed" sh -c "$CC -std=c11 -pthread -Idest$prefix/include user.c -o user && ./user"
fi
check "uninstall" made uninstall
check "nothing is left but folders" sh -c '[ -z "$(find dest -type f)" ]'

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
