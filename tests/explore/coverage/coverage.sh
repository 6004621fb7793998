#!/bin/sh
# coverage.sh - `make coverage`: which lines and branches of patterns/src do the test programs and the scenarios
# of the explorer take? gcov counts them in the parts themselves (the headers in patterns/ are copies), on three
# back ends, added up: a branch is taken when any program takes it. Assertions are left out, and what must be
# inlined is not, so that a function is counted once. The scenarios take what only some schedules reach (the
# loser of a race for a lock) for certain.
#
#   T=name            only programs whose name contains it    BACKENDS=futex    only that one
#   WHAT=tests        or scenarios: only those                MORE=1            go on where the last run ended
#
#   ACCEPT=1          write what this run leaves into untaken.txt
#
# What is never taken is in build/coverage/never; exceptions.txt has reasons. A branch that is in neither
# exceptions.txt nor untaken.txt (those that nobody has looked at yet) fails.
set -u
CC=${CC:-gcc}
BUILD=${BUILD:-build}
JOBS=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
here=tests/explore/coverage
top=$(pwd)
W=$top/$BUILD/coverage
export CC BUILD JOBS EXPLORE_BUILD="$top/$BUILD/explore"

flags_of() {
    case $1 in
    futex) ;;
    no-futex) echo -DTWILL_NO_FUTEX ;;
    no-futex-pthread) echo -DTWILL_NO_FUTEX -DTWILL_USE_PTHREAD ;;
    esac
    echo '-O0 -w -DTWILL_ASSERT(c)=((void)0) -Dalways_inline='
    echo "-I$W/include -I$top/patterns/src -I$top/tests"
}
count() {  # folder: gcov's texts of what ran there; the counters themselves are not needed any more
    (cd "$1" && gcov -p -b -c ./*.gcda >gcov.log 2>&1)
    rm -f "$1"/program "$1"/*.gcno "$1"/*.gcda
}
if [ "${1:-}" = --one ]; then
    set -- $2 # back end, file
    folder=$W/$1-$(basename "$2" .c)
    [ -z "${MORE:-}" ] || [ -z "$(ls "$folder"/*.gcov 2>/dev/null | head -n 1)" ] || exit 0
    rm -rf "$folder"
    mkdir -p "$folder"
    # shellcheck disable=SC2046 # flags
    case $2 in
    */scenarios/*)
        told=$(sed -n 's/^.*EXPLORE: *\(.*\)/\1/p' "$2" | sed -e 's/ *\*\/.*//' | head -n 1)
        wants=$(sed -n 's/^.*EXPLORE-FLAGS: *\(.*\)/\1/p' "$2" | sed -e 's/ *\*\/.*//' | head -n 1)
        # those that draw whole programs come to more with each
        case $2 in *_any.c) most='--schedules=20000 --seconds=8' ;; *) most='--schedules=2000 --seconds=2' ;; esac
        tests/explore/explore-cc -std=c11 --plain --coverage $(flags_of "$1") $wants -o "$folder/program" "$2" >"$folder/log" 2>&1 ||
            { echo "$2 on $1 does not build"; exit 0; }
        for strategy in random pct; do
            timeout -k 2 60 "$folder/program" --keep-counters --spurious $most \
                --strategy=$strategy $told >"$folder/log" 2>&1 || echo "$2 on $1: $(tail -n 1 "$folder/log")"
        done ;;
    *)
        $CC -std=c11 --coverage -fprofile-update=atomic -DTWILL_IMPLEMENTATION= $(flags_of "$1") -pthread \
            -Wl,--wrap=_exit,--wrap=_Exit,--wrap=raise -o "$folder/program" "$2" "$W/exit.c" -lm >"$folder/log" 2>&1 || { echo "$2 on $1 does not build"; exit 0; }
        timeout -k 2 180 "$folder/program" >"$folder/log" 2>&1 || echo "$2 on $1: $(tail -n 1 "$folder/log")" ;;
    esac
    count "$folder"
    exit 0
fi

command -v gcov >/dev/null || { echo "SKIP coverage: gcov is missing"; exit 0; }
[ -n "${MORE:-}" ] || rm -rf "$W"
mkdir -p "$W/include"
for header in patterns/src/*.h; do
    name=$(basename "$header")
    [ "$name" = twill.h ] || echo "#include \"$name\"" >"$W/include/twill_$name"
done
# A process that leaves by _exit, or dies by a signal of its own, must write its counters, too; but not
# for ever: that needs stdio, which a test may have locked.
cat >"$W/exit.c" <<'END'
#define _GNU_SOURCE
#include <signal.h>
#include <unistd.h>
extern void __gcov_dump(void);
extern void __gcov_reset(void);
extern void __real__exit(int status);
extern void __real__Exit(int status);
extern int __real_raise(int number);
static int end_number, end_status;
static void out_of_time(int alarm_)
{
    (void)alarm_;
    if (end_number)
        __real_raise(end_number);
    __real__exit(end_status);
}
static void dump(int number, int status)
{
    end_number = number;
    end_status = status;
    signal(SIGALRM, out_of_time);
    alarm(2);
    __gcov_dump();
    alarm(0);
}
void __wrap__exit(int status)
{
    dump(0, status);
    __real__exit(status);
}
void __wrap__Exit(int status)
{
    dump(0, status);
    __real__Exit(status);
}
int __wrap_raise(int number)
{
    struct sigaction now;
    if (sigaction(number, 0, &now) == 0 && now.sa_handler == SIG_DFL) {
        dump(number, 128 + number);
        __gcov_reset(); /* if it does not die, what follows counts */
    }
    return __real_raise(number);
}
END
tests/explore/explore-cc || exit 1
for backend in ${BACKENDS:-futex no-futex no-futex-pthread}; do
    for file in tests/test_*.c tests/explore/scenarios/*.c; do
        case ${WHAT:-all}-$file in
        *test_harness* | *test_demo* | tests-*/scenarios/* | scenarios-tests/test_*) continue ;;
        *"${T:-}"*) echo "$backend $file" ;;
        esac
    done
done >"$W/todo.$$"
tr '\n' '\0' <"$W/todo.$$" | xargs -0 -n 1 -P "$JOBS" sh "$0" --one
# What was run: back ends, programs.
(cd "$W" && find . -name '*.gcov') | sed -e 's,^\./,,' -e 's,/.*,,' | sort -u | awk -v commit="$(git log -1 --format=%h -- patterns/src tests 2>/dev/null)" '
    { tests += /-test_/; scenarios += !/-test_/; sub(/-(test_.*|[a-z_0-9]*)$/, ""); backends[$0] = 1 }
    END { for (b in backends) list = list (list == "" ? "" : ", ") b
        printf "%s; %d runs of test programs, %d of scenarios; commit %s\n", list, tests, scenarios, commit }' >"$W/backends"
find "$W" -name '*.gcov' -print0 | xargs -0 cat | awk -v exceptions="$here/exceptions.txt" \
    -v untaken="$here/untaken.txt" -v never="$W/never" -v new="$W/new" -f $here/merge.awk | tee "$W/summary"
[ -z "${T:-}${WHAT:-}${BACKENDS:-}" ] || exit 0 # a part of it proves nothing
if [ -n "${ACCEPT:-}" ]; then
    { sed -n '/^#/p' "$here/untaken.txt" && sort -u "$W/never"; } >"$W/untaken" && mv "$W/untaken" "$here/untaken.txt"
    exit
fi
if [ -s "$W/new" ]; then
    echo "not taken, and neither in exceptions.txt nor in untaken.txt:"
    cat "$W/new"
    exit 1
fi
