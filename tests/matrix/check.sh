#!/bin/sh
# check.sh - the headers against compilers, standards and ways of linking. A case is a command that must succeed
# (or, after `fails`, must not). `make test` takes a slice: each header compiled alone, and its symbols; what else is
# asked of each, of the one that has them all; the main rules of linking once, with one compiler or the other. What was
# compiled, and has no program to run, is not compiled again while nothing that the cases read has changed. FULL=1: all
# of it, with each compiler; GRID=1 too: the grid of standards x levels x back ends. Run from the project's root:
# `make test T=matrix [FULL=1]`, `make matrix`, which CI runs.
set -u
BUILD=${BUILD:-build}
W=$(pwd)/$BUILD/matrix${FULL:+-full}
here=$(pwd)/tests/matrix
patterns=$(pwd)/patterns
quoted="'$(pwd)'"  # in commands, which are evaluated: the path may have blanks
WARN="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Werror"
CXXWARN="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wold-style-cast -Werror"
# gcc takes seconds for this one in a long file, and it hangs on the text alone: FULL=1 asks for it in cases of its own.
ALLWARN=$WARN
WARN="$WARN -Wno-misleading-indentation"
[ -n "${FULL:-}" ] || CXXWARN="$CXXWARN -Wno-misleading-indentation"

# ---- one case ----

fails() { ! "$@"; }

# fails_saying TEXT TEXT COMMAND...: the command fails and its output has both texts
fails_saying() {
    first=$1 second=$2
    shift 2
    if "$@" >said.$$ 2>&1; then echo "it should have failed"; return 1; fi
    cat said.$$
    grep -qF -e "$first" said.$$ && grep -qF -e "$second" said.$$
}

# symbols OBJECT: the global symbols that it defines
symbols() { nm -g --defined-only "$1" | awk '{ print $NF }'; }

# only PATTERN: fails if a line of the input does not match
only() { ! grep -vE -e "$1"; }
none() { ! grep -E -e "$1"; }

if [ "${1:-}" = --case ]; then
    label=${2%% :: *} command=${2#* :: }
    cd "$W" || exit 1
    log=$W/log.$$
    if (eval "$command") >"$log" 2>&1; then
        echo pass >>"$W/counts"
        case $command in *./* | *program* | '! grep'*) ;; *) echo "$label" >>"$W/kept" ;; esac
    else
        { echo "FAIL matrix: $label"; echo "$command" | sed -e 's/^ */  $ /'; tail -n 15 "$log" | sed -e 's/^/  | /'; } >>"$W/report"
        echo fail >>"$W/counts"
    fi
    rm -f "$log" "$W/said.$$"
    exit 0
fi

# ---- what is here ----

mkdir -p "$W"
skips=0

works() { echo 'int main(void) { return 0; }' >"$W/try.c"; "$@" "$W/try.c" -o "$W/try" 2>/dev/null; }
skip() { echo "SKIP $1: apt-get install $2"; skips=$((skips + 1)); }
case_of() { list_case "$1" "$2" "$W/cases"; }
# then_case: one that uses what others leave
then_case() { list_case "$1" "$2" "$W/cases.then"; }
list_case() {  # label, command, list
    case "
$kept
" in
    *"
$1
"*) echo kept >>"$W/counts" ;;
    *) printf '%s :: %s\n' "$1" "$2" >>"$3" ;;
    esac
}
# once_case ONE CHOSEN LABEL COMMAND: without FULL=1, for the chosen compiler alone
once_case() { [ -z "${FULL:-}" ] && [ "$1" != "$2" ] || case_of "$3" "$4"; }
full_case() { [ -z "${FULL:-}" ] || case_of "$1" "$2"; }
# whole_case HEADER LABEL COMMAND: without FULL=1, for the header that has them all
whole_case() { [ -z "${FULL:-}" ] && [ "$1" != twill.h ] || case_of "$2" "$3"; }

compilers="" cxx=""
for one in gcc clang; do works $one && compilers="$compilers $one" || skip "$one" "$one"; done
[ -n "$compilers" ] || compilers=" ${CC:-cc}"
cc=${compilers# }
cc=${cc%% *}
# What FULL=1 does with the first compiler, or with each, is else done with the last: clang, which is quicker.
quick=${compilers##* }
[ -z "${FULL:-}" ] || quick=$cc
works g++ -x c++ && cxx="$cxx g++" || skip g++ g++
works clang++ -x c++ && cxx="$cxx clang++" || skip clang++ clang
command -v nm >/dev/null && have_nm=1 || { have_nm=""; skip nm binutils; }

# $W/begun: with which compilers what is there was begun, and when.
kept=
if [ -z "${FULL:-}" ] && [ "$(cat "$W/begun" 2>/dev/null)" = "$compilers $cxx $have_nm" ] &&
    [ -z "$(find patterns examples tests/matrix tests/harness.h tools -newer "$W/begun" | head -n 1)" ]; then
    kept=$(cat "$W/kept")
else
    rm -rf "$W"
    mkdir -p "$W"
    : >"$W/kept"
    echo "$compilers $cxx $have_nm" >"$W/begun"
fi
for list in cases cases.then counts report; do : >"$W/$list"; done

headers=$(cd "$patterns" && ls twill_*.h twill.h 2>/dev/null)
singles=$(cd "$patterns" && ls twill_*.h 2>/dev/null)
[ -n "$headers" ] || { echo "no headers in patterns/: run \`make headers\`"; echo "0 passed, 1 failed"; exit 1; }
has() { [ -f "$patterns/twill_$1.h" ]; }

# ---- each header alone ----

alone_file() {  # header, name, then lines
    dir=$W/alone/${1%.h}
    [ ! -f "$dir/$2" ] || return
    mkdir -p "$dir"
    [ -f "$dir/$1" ] || cp "$patterns/$1" "$dir/"
    name=$2 header=$1
    shift 2
    printf '%s\n' "$@" | sed "s/HEADER/#include \"$header\"/" >"$dir/$name"
}
for header in $headers; do
    stem=${header%.h}
    alone_file $header impl.c "#define TWILL_IMPLEMENTATION" HEADER "int main(void) { return 0; }"
    alone_file $header code.c "#define TWILL_IMPLEMENTATION" HEADER
    alone_file $header twice.c HEADER HEADER "int unused_but_there;"
    alone_file $header later.c HEADER "#define TWILL_IMPLEMENTATION" HEADER HEADER "int main(void) { return 0; }"
    alone_file $header static.c "#define TWILL_STATIC" HEADER HEADER "int main(void) { return 0; }"
    alone_file $header decl.cpp HEADER HEADER "int unused_but_there;"
    alone_file $header impl.cpp "#define TWILL_IMPLEMENTATION" HEADER
    for one in $compilers; do
        cd_and="cd alone/$stem && $one -std=c11 $WARN"
        # gcc's optimiser sees what is uninitialised and the like; clang has no warning that its front end does not give.
        case $one in clang*) optimise=-O0 ;; *) optimise=-O2 ;; esac
        # "symbols" below compiles it with the quick compiler.
        [ "$one$have_nm" = "${quick}1" ] || full_case "$header: implementation, $one" "$cd_and -fsyntax-only impl.c"
        full_case "$header: declarations twice, $one" "$cd_and -fsyntax-only twice.c"
        full_case "$header: declarations, then implementation, $one" "$cd_and -fsyntax-only later.c"
        full_case "$header: TWILL_STATIC, $one" "$cd_and -fsyntax-only static.c"
        full_case "$header: a program of it alone, $one" "$cd_and $optimise -pthread later.c -o later-$one -lm && ./later-$one"
        full_case "$header: indentation, $one" "cd alone/$stem && $one -std=c11 $ALLWARN -fsyntax-only impl.c"
    done
    for one in $cxx; do
        full_case "$header: declarations as C++11, $one" \
            "cd alone/$stem && $one -std=c++11 $CXXWARN -fsyntax-only decl.cpp"
        [ $one = "${cxx##* }" ] && whole_case $header "$header: TWILL_IMPLEMENTATION in C++ is refused in words, $one" \
            "cd alone/$stem && fails_saying 'define TWILL_IMPLEMENTATION in a .c file' error $one -std=c++11 -E -o /dev/null impl.cpp"
    done
    # Macros that the declarations add to those of their system headers.
    # the three that note the line of whoever borrows look like the functions that they call
    whole_case $header "$header: every macro of the declarations begins with TWILL_" \
        "cd alone/$stem && echo '#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>' >system.c && $cc -std=c11 -dM -E system.c | sort >system.macros &&
         $cc -std=c11 -dM -E twice.c | sort | comm -13 system.macros - | awk '{ print \$2 }' | only '^TWILL_|^twill_resource_pool_(try_)?acquire(_until)?[(]'"
done

# ---- each part alone: it includes what it uses ----

for part in $(cd "$patterns/src" && ls base/*.h platform/*.h engine/*.h); do
    name=$(echo "$part" | tr / -) with=$quick
    case $part in
    *_windows.h) with=x86_64-w64-mingw32-gcc; command -v $with >/dev/null || continue ;;
    esac
    mkdir -p "$W/parts"
    printf '#define TWILL_IMPLEMENTATION\n#include "%s"\n#include "%s"\nint unused_but_there;\n' "$part" "$part" >"$W/parts/$name.c"
    full_case "$part alone" "$with -std=c11 $WARN -I$quoted/patterns/src -fsyntax-only parts/$name.c"
done

# Nobody has to know what an atomic without an order means.
case_of "every atomic access states its order" \
    "! grep -rnE '\\batomic_(load|store|exchange|fetch_[a-z]+|compare_exchange_[a-z]+)[(]' $quoted/patterns/src"

# `make format` keeps code within them, and leaves comments alone.
case_of "no line is wider than 100 columns" \
    "! grep -rnE --include='*.[ch]' '^.{101}' $quoted/patterns/src $quoted/tests $quoted/examples"

# ---- all headers in one file ----

all_file() {  # name, first lines, headers
    { printf '%s\n' "$2"; for header in $3; do echo "#include \"$header\""; done; echo "int main(void) { return 0; }"; } >"$W/$1"
}
backwards=$(printf '%s\n' $headers | sort -r)
all_file all.c "#define TWILL_IMPLEMENTATION" "$headers $headers"
all_file all-backwards.c "#define TWILL_IMPLEMENTATION" "$backwards"
all_file all-decl.cpp "" "$headers $backwards"
all_file all-after-gnu.c "#define _GNU_SOURCE 1
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>
#define TWILL_IMPLEMENTATION" "$headers"
all_file all-before-posix.c "#define TWILL_IMPLEMENTATION" "$headers"
printf '#include <%s>\n' errno.h pthread.h signal.h stdio.h string.h sys/wait.h time.h unistd.h >>"$W/all-before-posix.c"
{
    for header in $headers; do echo "#include \"$header\""; done
    echo "#define TWILL_IMPLEMENTATION"
    for header in $backwards; do echo "#include \"$header\""; done
    echo "int main(void) { return 0; }"
} >"$W/all-decl-first.c"
for one in $compilers; do
    case_of "all.c, $one" "$one -std=c11 $WARN -I$quoted/patterns -fsyntax-only all.c"
    full_case "all.c as a program, $one" "$one -std=c11 -O0 -I$quoted/patterns -pthread all.c -o all-$one -lm && ./all-$one"
    for file in all-backwards all-decl-first all-after-gnu all-before-posix; do
        full_case "$file.c, $one" "$one -std=c11 $WARN -I$quoted/patterns -fsyntax-only $file.c"
        full_case "$file.c as a program, $one" \
            "$one -std=c11 -O0 -I$quoted/patterns -pthread $file.c -o $file-$one -lm && ./$file-$one"
    done
    full_case "all.c, gnu11, debug assertions off, $one" \
        "$one -std=gnu11 -DNDEBUG -O2 $WARN -I$quoted/patterns -fsyntax-only all.c"
done
for one in $cxx; do
    for std in c++11 ${FULL:+c++20}; do
        case_of "all-decl.cpp, $one -std=$std" "$one -std=$std $CXXWARN -I$quoted/patterns -fsyntax-only all-decl.cpp"
    done
done

# ---- one header a .c file, one program ----

mkdir -p "$W/apart"
for header in $singles; do
    printf '#define TWILL_IMPLEMENTATION\n#include "%s"\n' "$header" >"$W/apart/${header%.h}.c"
done
echo '#include "twill.h"
int main(void) { return twill_now() > 0 ? 0 : 1; }' >"$W/apart/main.c"
[ -f "$patterns/twill.h" ] && for one in $compilers; do
    label="each header implemented in a .c file of its own, one program, $one"
    if [ -n "${FULL:-}" ] || [ -z "$have_nm" ]; then
        command="mkdir -p apart/$one && cd apart/$one && $one -std=c11 -I$quoted/patterns -pthread ../*.c -o program -lm && ./program"
        once_case $one $quick "$label" "$command"
    elif [ $one = $quick ]; then  # of the objects that "symbols" looks at
        then_case "$label" "$one -std=c11 -I$quoted/patterns -pthread $quoted/tests/matrix/my_malloc.c apart/main.c \
            alone/twill_*/symbols.o -o apart/program -lm && apart/program"
    fi
done

if has parallel_map; then
    # gcc refuses functions that must be inlined and are not, as comparisons of a sort with these flags once were.
    for one in $cxx; do
        full_case "main in C++, implementation in C, nothing inlined, $one" \
            "$cc -std=c11 -Og -fno-inline -I$quoted/patterns -c apart/twill_parallel_map.c -o cxx-$one.o &&
             $one -std=c++11 -Og -fno-inline $CXXWARN -I$quoted/patterns -pthread $quoted/tests/matrix/main.cpp cxx-$one.o -o cxx-$one && ./cxx-$one"
    done
    # Two files with a private copy each.
    case_of "TWILL_STATIC in two files" \
        "$quick -std=c11 $WARN -I$quoted/patterns -pthread -DNAME=first $quoted/tests/matrix/static_copy.c -c -o static1.o &&
         $quick -std=c11 $WARN -I$quoted/patterns -pthread -DNAME=second -DOTHER=first $quoted/tests/matrix/static_copy.c -c -o static2.o &&
         $quick -pthread static1.o static2.o -o static && ./static"
    # A header of another version is refused in words that name both.
    mkdir -p "$W/versions"
    sed -e 's/TWILL_VERSION  *100 /TWILL_VERSION 99900 /' -e 's/TWILL_VERSION != 100$/TWILL_VERSION != 99900/' \
        -e 's/TWILL_VERSION == 100,/TWILL_VERSION == 99900,/' -e 's/TWILL_VERSION_TEXT  *"[0-9.]*"/TWILL_VERSION_TEXT "9.99.0"/' \
        -e 's/this header is twill [0-9.]*,/this header is twill 9.99.0,/' \
        "$patterns/twill_parallel_map.h" >"$W/versions/other.h"
    version=$(sed -n 's/^#define TWILL_VERSION_TEXT "\(.*\)".*/\1/p' "$patterns/twill_parallel_map.h")
    printf '#include "twill_parallel_map.h"\n#include "other.h"\n' >"$W/versions/new-last.c"
    printf '#include "other.h"\n#include "twill_parallel_map.h"\n' >"$W/versions/new-first.c"
    for file in new-last new-first; do
        for one in $compilers; do
            once_case $one $quick "two versions in one file, $file, $one" \
                "fails_saying '$version' 9.99.0 $one -std=c11 -I$quoted/patterns -fsyntax-only versions/$file.c"
        done
        for one in $cxx; do
            full_case "two versions in one file, $file, $one" \
                "fails_saying '$version' 9.99.0 $one -x c++ -std=c++11 -I$quoted/patterns -fsyntax-only versions/$file.c"
        done
    done
fi

# ---- symbols ----

if [ -n "$have_nm" ]; then
    for header in $headers; do
        stem=${header%.h}
        ends='^$'
        case $stem in twill | twill_graceful_shutdown) ends='^exit$' ;; esac # twill_shutdown_exit is asked for
        case_of "$header: twill_ names alone, no other pattern, nothing printed or ended, TWILL_MALLOC for all memory" \
            "cd alone/$stem && $quick -std=c11 $WARN '-DTWILL_MALLOC(n)=my_malloc(n)' '-DTWILL_FREE(p)=my_free(p)' -include $quoted/tests/matrix/my_malloc.h \
             -c code.c -o symbols.o && nm -g symbols.o | awk -v ends='$ends' -f $quoted/tests/matrix/symbols.awk $header -"
        full_case "$header: TWILL_STATIC defines no global name but the two of the process" \
            "$cc -std=c11 -O0 -c alone/$stem/static.c -o alone/$stem/static.o &&
             symbols alone/$stem/static.o | grep -v '^main$' | only '^twill__(thread|process)(_layout[0-9]+)?$'"
    done
    if has parallel_map; then
        then_case "parallel_map has no code of the pool" \
            "symbols alone/twill_parallel_map/symbols.o >poolless && none pool <poolless"
        full_case "TWILL_API decides what a shared object exports" \
            "$quick -std=c11 -fPIC -shared -fvisibility=hidden '-DTWILL_API=__attribute__((visibility(\"default\")))' \
             -I$quoted/patterns -pthread apart/twill_parallel_map.c -o libapi.so && symbols libapi.so | grep -qx twill_parallel_map"
        full_case "without TWILL_API a hidden shared object exports the two of the process" \
            "$quick -std=c11 -fPIC -shared -fvisibility=hidden -I$quoted/patterns -pthread apart/twill_parallel_map.c -o libhidden.so &&
             symbols libhidden.so | only '^twill__(thread|process)(_layout[0-9]+)?$'"
    fi
fi

# ---- libraries that carry a header each ----

# linking NAME CC FLAGS BACKEND HOW: lib_map has parallel_map, lib_pool has worker_pool, linking.c has neither
linking() {
    compile="$2 -std=c11 $WARN -I$quoted/patterns -I$quoted/tests -pthread $submits $3 $4"
    dir="link-$(echo "$1" | tr ' ' '-')"
    main="$compile -c $quoted/tests/matrix/linking.c"
    case $5 in
    objects) build="$compile -c $quoted/tests/matrix/lib_map.c $quoted/tests/matrix/lib_pool.c && $compile linking.o lib_map.o lib_pool.o -o program" ;;
    archives) build="$compile -c $quoted/tests/matrix/lib_map.c $quoted/tests/matrix/lib_pool.c && ar rcs libmap.a lib_map.o && ar rcs libpool.a lib_pool.o &&
        $compile linking.o -L. -lmap -lpool -o program" ;;
    shared) build="$compile -fPIC -shared $quoted/tests/matrix/lib_map.c -o libmap.so && $compile -fPIC -shared $quoted/tests/matrix/lib_pool.c -o libpool.so &&
        $compile linking.o -L. -lmap -lpool -Wl,-rpath,. -o program" ;;
    both) main="$main -fPIC" build="$compile -fPIC -c $quoted/tests/matrix/lib_map.c $quoted/tests/matrix/lib_pool.c &&
        $compile linking.o lib_map.o lib_pool.o -o objects && timeout 300 ./objects &&
        $compile -shared lib_map.o -o libmap.so && $compile -shared lib_pool.o -o libpool.so &&
        $compile linking.o -L. -lmap -lpool -Wl,-rpath,. -o program" ;;
    esac
    case_of "linking: $1" "mkdir -p $dir && cd $dir && $main && $build && timeout 300 ./program"
}
if has parallel_map && has worker_pool; then
    submits=$(grep -q 'twill_pool_submit(' "$patterns/twill_worker_pool.h" && echo -DPOOL_SUBMITS)
    if [ -z "${FULL:-}" ]; then
        linking "objects and hidden shared" $quick -fvisibility=hidden "" both
    else
        linking "archives" $quick "" "" archives
        linking "hidden futex" $quick -fvisibility=hidden "" shared
        linking "shared" ${compilers##* } "" "" shared
        linking "hidden pthread" $quick -fvisibility=hidden -DTWILL_USE_PTHREAD shared
        linking "hidden no-futex" $quick -fvisibility=hidden -DTWILL_NO_FUTEX shared
        linking "hidden no-futex pthread" $quick -fvisibility=hidden "-DTWILL_NO_FUTEX -DTWILL_USE_PTHREAD" shared
    fi
fi

# ---- programs of users: gcc's warnings are seen where the examples are built ----

for one in $compilers; do
    [ $one != gcc ] || continue
    for source in examples/*.c; do
        command="$one -std=c11 $WARN -I$quoted/patterns -fsyntax-only $quoted/$source"
        [ -z "$(sh tools/needs.sh --missing "$source")" ] || continue
        # without FULL=1, the one with functions that nobody calls
        case $source in */producer_consumer.c) case_of "$source, $one" "$command" ;; *) full_case "$source, $one" "$command" ;; esac
    done
done

# ---- other targets ----

target() {  # LABEL COMPILER: all headers; with FULL=1, as a program that runs, where this machine runs such programs
    if [ -z "${FULL:-}" ]; then
        case_of "all.c, $1" "$2 -std=c11 $WARN -I$quoted/patterns -pthread -fsyntax-only all.c"
        return
    fi
    name=$(echo "$1" | tr -d ' ,')
    run="./$name"
    # A kernel may be built without 32-bit programs.
    works $2 && "$W/try" 2>/dev/null || { run=true; echo "SKIP $1, run: this machine does not run them"; skips=$((skips + 1)); }
    case_of "all.c, $1" "$2 -std=c11 $WARN -I$quoted/patterns -pthread all.c -o $name -lm && $run"
}
if works $cc -m32 -include sys/syscall.h; then
    target "32 bits" "$cc -m32"
    [ -z "${FULL:-}" ] || target "32 bits, 64-bit time" "$cc -m32 -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64"
else
    skip "32 bits" gcc-multilib
fi
if works musl-gcc; then target musl "musl-gcc -static"; else skip musl musl-tools; fi

# ---- the grid ----

# The optimisers, which see uninitialised values and the like, are given all headers in one; the others, of which each
# is a part of that one, are compiled without.
if [ -n "${GRID:-}" ]; then
    for header in $headers; do
        stem=${header%.h}
        for one in $compilers; do
            # What optimisers warn of is in -O2 of all headers. The standard is for the front end, and all of clang's
            # warnings come from there. gcc has given those of -O0 when it hands over to -flto.
            case $one$header in
            clang*) front=-fsyntax-only same=$front other=$front; [ $header != twill.h ] || other="-O0 -c" ;;
            *twill.h) front=-fsyntax-only same="-O0 -c" other="-O2 -c" ;;
            *) front=-fsyntax-only same="-O0 -flto -c" other=$same ;;
            esac
            case_of "$header: $one -O0" "cd alone/$stem && $one -std=c11 $WARN -O0 -c impl.c -o /dev/null"
            for std in c17 c2x; do
                case_of "$header: $one -std=$std" "cd alone/$stem && $one -std=$std $WARN $front impl.c"
            done
            for flags in "-DTWILL_USE_PTHREAD" "-DTWILL_NO_FUTEX" "-DTWILL_NO_FUTEX -DTWILL_USE_PTHREAD" \
                "-DTWILL_STATIC" "-DTWILL_STATIC -DTWILL_NO_FUTEX" "-DNDEBUG" "-flto"; do
                case_of "$header: $one $flags $other" "cd alone/$stem && $one -std=c11 $WARN $flags $other impl.c -o /dev/null"
            done
            case_of "$header: $one -fsanitize=thread" \
                "cd alone/$stem && $one -std=c11 $WARN ${other%% *} -fsanitize=thread -c impl.c -o /dev/null"
            for flags in -fshort-enums -funsigned-char "'-DTWILL_API=__attribute__((visibility(\"default\")))'"; do
                case_of "$header: $one $flags $same" "cd alone/$stem && $one -std=c11 $WARN $flags $same impl.c -o /dev/null"
            done
        done
        for one in $cxx; do
            for std in c++14 c++17 c++20; do
                case_of "$header: $one -std=$std" "cd alone/$stem && $one -std=$std $CXXWARN -fsyntax-only decl.cpp"
            done
        done
    done
    for one in $compilers; do
        # -O2: "a program of it alone" of twill.h
        for level in -O1 -O3 -Os; do
            case $one in
            clang*) case_of "all.c, $one $level" "$one -std=c11 $WARN $level -I$quoted/patterns -fsyntax-only all.c" ;;
            *) case_of "all.c, $one $level" "$one -std=c11 $WARN $level -I$quoted/patterns -c all.c -o /dev/null" ;;
            esac
        done
    done
    if has parallel_map && has worker_pool; then
        for one in $compilers; do
            for level in -O1 -O2 "-O2 -fvisibility=hidden" -O3 "-O2 -flto" "-O2 -fno-semantic-interposition"; do
                [ "$one $level" = "clang -O2 -flto" ] && continue  # needs lld or gold
                linking "objects and shared $one $level" $one "$level" "" both
            done
            # Without -fPIC nothing can be put in a symbol's place, as with hidden ones: so one level is enough.
            linking "objects $one -O2" $one -O2 "" objects
        done
    fi
fi

# ---- running them ----

jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)}
for list in cases cases.then; do
    [ -s "$W/$list" ] || continue
    # A case may span lines: the list is split where a line has the mark.
    awk 'index($0, " :: ") && NR > 1 { printf "%c", 0 } NR > 1 && !index($0, " :: ") { printf "\n" } { printf "%s", $0 } END { printf "%c", 0 }' \
        "$W/$list" >"$W/split"
    BUILD=$BUILD xargs -0 -n 1 -P "$jobs" sh "$here/check.sh" --case <"$W/split"
done
cat "$W/report"
count() { grep -c "^$1\$" "$W/counts"; }
listed=$(cat "$W/cases" "$W/cases.then" | grep -c ' :: ')
lost=$((listed - $(count pass) - $(count fail)))
passed=$(($(count pass) + $(count kept)))
[ "$lost" -eq 0 ] || echo "matrix: $lost cases did not come to their end"
printf '%d passed, %d failed' $passed "$(($(count fail) + lost))"
[ $skips -eq 0 ] || printf ', %d skipped' $skips
printf '\n'
[ "$(($(count fail) + lost))" -eq 0 ]
