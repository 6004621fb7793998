#!/bin/sh
# check.sh - the quick slice of the explorer for `make test`: its programs with known outcomes, replays, and some
# scenarios with few schedules. FULL=1: also what explore-cc tells and refuses, without -fsanitize=thread, the example
# for users, and more programs with and without the reduction. All scenarios: `make explore`.
set -u
CC=${CC:-gcc}
BUILD=${BUILD:-build}
here=tests/explore
W=$BUILD/explore
export CC EXPLORE_BUILD="$W"
passed=0 failed=0 skipped=0

. $here/tools.sh
missing && exit 0
$here/explore-cc || { echo "0 passed, 1 failed"; exit 1; }

build_corpus || { echo "FAIL explore: the corpus does not build"; cat "$W/corpus.log"; echo "0 passed, 1 failed"; exit 1; }
cases "$W/corpus" "$W/cases"

# A failure comes again, byte by byte, from its replay id.
replays() {  # options of the search, case, options of the replay
    log=$W/replay
    # shellcheck disable=SC2086 # options
    "$W/corpus" $1 -- $2 >"$log.all" 2>&1
    report <"$log.all" >"$log.first"
    id=$(sed -n 's/.*same options: --replay=//p' "$log.all")
    # shellcheck disable=SC2086
    "$W/corpus" ${3:-} --replay="$id" -- $2 2>&1 | report >"$log.second"
    if grep -q FAILED "$log.first" && cmp -s "$log.first" "$log.second"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL explore: $2 is not repeated by --replay=$id"
        diff "$log.first" "$log.second" | head -n 6
    fi
}
replays '--seed=7 --no-shrink' no_fence_in_notify
replays '--strategy=pct --seed=3 --no-shrink' aba
replays --strategy=exhaustive missing_recheck
replays '--spurious --seed=5 --no-shrink' futex_without_loop --spurious
replays --seed=9 key_after_recheck
replays '--seed=2 --no-shrink' by_chance
replays --strategy=exhaustive by_chance
replays '--spurious --seed=5' futex_without_loop --spurious

# The same seed gives the same report, byte by byte, from one process to the next; and a picture.
for run in 1 2; do
    "$W/corpus" --seed=11 --verbose --no-shrink --svg="$W/same.$run.svg" -- key_after_recheck >"$W/same.$run" 2>&1
    sed -i -e 's/, [0-9.]* s, [0-9]*\/s$//' "$W/same.$run"
done
if cmp -s "$W/same.1" "$W/same.2" && cmp -s "$W/same.1.svg" "$W/same.2.svg" && grep -q FAILED "$W/same.1" &&
    tail -n 1 "$W/same.1.svg" | grep -q '</svg>'; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "FAIL explore: the same seed gives another report"
    diff "$W/same.1" "$W/same.2" | head -n 6
fi

# Without -fsanitize=thread: all but data races.
if [ -z "${FULL:-}" ]; then
    :
elif $here/explore-cc --plain -o "$W/plain" $here/corpus/*.c >"$W/plain.log" 2>&1 &&
    "$W/plain" --spurious --schedules=500 -- no_fence_in_notify 2>&1 | grep -q 'futex on epoch' &&
    "$W/plain" --schedules=2000 -- aba 2>&1 | grep -q 'FAILED: assertion' &&
    "$W/plain" --strategy=exhaustive --preemptions=2 -- eventcount_right >"$W/plain.log" 2>&1 &&
    "$W/plain" --schedules=500 -- mp_fences >"$W/plain.log" 2>&1 &&
    "$W/plain" --schedules=50 -- begun_anew >"$W/plain.log" 2>&1; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "FAIL explore: --plain"
    tail -n 6 "$W/plain.log"
fi

# The reduction loses no outcome: small programs by number, with it and without. A schedule that is cut
# short says nothing; what it would have said, another one has.
outcomes() {  # options
    "$W/corpus" --strategy=exhaustive --show-output --schedules=100000 "$@" | tee "$W/outcomes.log" |
        grep '^[0-9]* [0-9]* [0-9]*: ' | sort -u
}
same=0 shorter=0 all=0
for number in $(seq 1 $([ -n "${FULL:-}" ] && echo 6 || echo 3)); do
    for bounds in '--preemptions=2 --stale=1' '--preemptions=1 --stale=2'; do
        # shellcheck disable=SC2086 # options
        outcomes $bounds -- $number >"$W/reduced"
        shorter=$((shorter + $(tail -n 1 "$W/outcomes.log" | sed 's/^[a-z]*: \([0-9]*\) .*/\1/')))
        # shellcheck disable=SC2086
        outcomes $bounds --no-reduction -- $number >"$W/unreduced"
        all=$((all + $(tail -n 1 "$W/outcomes.log" | sed 's/^[a-z]*: \([0-9]*\) .*/\1/')))
        if grep -q NOT "$W/outcomes.log"; then # too large to be compared
            continue
        elif cmp -s "$W/reduced" "$W/unreduced" && [ -s "$W/reduced" ]; then
            same=$((same + 1))
        else
            failed=$((failed + 1))
            echo "FAIL explore: program $number with $bounds has other outcomes without reduction:"
            diff "$W/reduced" "$W/unreduced" | head -n 4
        fi
    done
done
passed=$((passed + (same > 0)))
[ $shorter -lt $all ] || { failed=$((failed + 1)); echo "FAIL explore: the reduction cuts nothing short"; }
[ -z "${FULL:-}" ] || echo "reduction: $same searches alike, $shorter schedules instead of $all" >"$W/reduction"

# A search that goes on in other processes comes to the same outcomes, and to its end.
rm -f "$W/place"
outcomes --preemptions=2 --stale=1 -- 1 >"$W/whole"
for piece in $(seq 1 50); do
    outcomes --preemptions=2 --stale=1 --resume="$W/place" --schedules=$((20 + piece * 20)) -- 1
    [ -e "$W/place" ] || break
done | sort -u >"$W/pieces"
if cmp -s "$W/whole" "$W/pieces" && [ -s "$W/pieces" ] && [ ! -e "$W/place" ] &&
    grep -q '^exhaustive: EXHAUSTED.* 2 preemptions' "$W/outcomes.log"; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "FAIL explore: a search in pieces has other outcomes than one:"
    diff "$W/whole" "$W/pieces" | head -n 4
fi

# What the explorer does not know is told with its line, stops the program that comes to it, and may be allowed.
cat >"$W/unknown.c" <<'END'
#include <getopt.h>
#include <setjmp.h>
#include <string.h>
#include <unistd.h>
extern int nobody(int) __attribute__((weak));
extern int foo_add(int, int);
static int (*volatile pointer)(const char *, char *const[]) = execv;
static jmp_buf place;
int main(int count, char **list)
{
    char text[8];
    strncpy(text, count > 1 ? list[1] : "", 7);
    if (setjmp(place) == 0)
        longjmp(place, 1);
    if (text[0] == 'a')
        return execl("/", "/", (char *)0) +
            (vfork() == 0);
    if (text[0] == 'b')
        return pointer("/", NULL);
    if (text[0] == 'c')
        return foo_add(1, 2) != 3;
    return (nobody ? nobody(1) : 0) + (optind != 1); /* variables are no calls */
}
END
echo 'int foo_add(int a, int b) { return a + b; }' >"$W/foo.c"
stops() {  # argument, function, line
    "$W/unknown" --schedules=3 -- "$1" >>"$W/unknown.log" 2>&1
    [ $? -eq 3 ] && grep -q "does not know $2:.*unknown.c:$3)" "$W/unknown.log"
}
unknown() {
    $CC -c -o "$W/libfoo.o" "$W/foo.c" && rm -f "$W/libfoo.a" && ar rc "$W/libfoo.a" "$W/libfoo.o" || return 1
    $here/explore-cc -std=gnu11 -o "$W/unknown" "$W/unknown.c" "$W/libfoo.a" >"$W/unknown.log" 2>&1 || return 1
    grep -q 'unknown.c:16: the explorer does not know execl$' "$W/unknown.log" || return 1
    grep -q 'unknown.c:17: the explorer does not know vfork$' "$W/unknown.log" || return 1
    [ "$(grep -c 'does not know' "$W/unknown.log")" = 4 ] || return 1
    stops a execl 16 && stops b execv 19 && stops c foo_add 21 || return 1
    "$W/unknown" --schedules=3 >>"$W/unknown.log" 2>&1 || return 1
    $here/explore-cc -std=gnu11 '--allow=foo_.*' -o "$W/unknown" "$W/unknown.c" -L"$W" -l:libfoo.a >"$W/unknown.log" 2>&1 || return 1
    [ "$(grep -c 'does not know' "$W/unknown.log")" = 3 ] || return 1
    stops a execl 16 || return 1
    "$W/unknown" --schedules=3 -- c >>"$W/unknown.log" 2>&1
}
if [ -z "${FULL:-}" ]; then
    :
elif unknown; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "FAIL explore: calls that it does not know are not refused with their lines, or not allowed:"
    tail -n 12 "$W/unknown.log"
fi

# So is what it would not see, and what would be another thing in each run. Both sides of a race are shown.
cat >"$W/unseen.c" <<'END'
#include <pthread.h>
#include <stdio.h>
static int n;
static void *add(void *unused)
{
    __asm__ volatile("pause" ::: "memory");
#ifdef HIDDEN
    __asm__ volatile("incl %0" : "+m"(n));
#else
    n += 1;
#endif
    return unused;
}
int main(int count, char **list)
{
    pthread_t a, b;
    char line[8];
    if (count > 1)
        return !fgets(line, sizeof line, stdin);
    (void)list;
    pthread_create(&a, NULL, add, NULL);
    pthread_create(&b, NULL, add, NULL);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    return 0;
}
END
unseen() {
    ! $here/explore-cc -DHIDDEN -o "$W/unseen" "$W/unseen.c" >"$W/unseen.log" 2>&1 || return 1
    grep -q 'unseen.c.*inline assembly.*inc' "$W/unseen.log" || return 1
    $here/explore-cc --asm -DHIDDEN -o "$W/unseen" "$W/unseen.c" && "$W/unseen" --schedules=9 >"$W/unseen.log" || return 1
    $here/explore-cc -o "$W/unseen" "$W/unseen.c" && ! "$W/unseen" >"$W/unseen.log" || return 1
    [ "$(grep -c '|  *T[12] [rw][a-z]* n  *unseen.c:10$' "$W/unseen.log")" = 2 ] || return 1
    "$W/unseen" -- input </dev/null >"$W/unseen.log" 2>&1
    [ $? -eq 3 ] && grep -q 'fgets reads standard input.*unseen.c:19' "$W/unseen.log" || return 1
    for none in --schedules=0 '--strategy=exhaustive --preemptions=-1' --fail-alloc=9; do # would be "0 failed"
        # shellcheck disable=SC2086 # options
        ! "$W/corpus" $none -- mp_release >"$W/unseen.log" 2>&1 || return 1
    done
}
if [ -z "${FULL:-}" ]; then
    :
elif unseen; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "FAIL explore: assembly, standard input, a side of a race or a search of nothing goes unseen:"
    tail -n 12 "$W/unseen.log"
fi

# Each mutant that is said to survive, or to be needed, is one, and has a reason. Nothing but these files says so.
said=$W/survivors
if [ -n "$(find patterns/src $here/mutants $here/check.sh -newer "$said.right" 2>&1 | head -n 1)" ]; then
    rm -f "$said.right"
    : >"$said.begun"
    awk 'function none() { if (name != "") print "mutants: no reason is given for " name; name = "" }
        /^ *[^ ]/ && !/^#/ { name = /^ / ? "" : $0 }
        /^$/ || FNR == 1 { none() }
        END { none() }' $here/mutants/survivors.txt $here/mutants/needed.txt >"$said.wrong"
    cat $here/mutants/survivors.txt $here/mutants/needed.txt | grep '^[^# ]' | sort -u >"$said"
    cut -d' ' -f1 "$said" | sort -u | while read -r file; do
        awk -f $here/mutants/mutate.awk patterns/src/"$file" | sed "s,^,$file | ,"
    done | sort -u >"$said.all"
    comm -23 "$said" "$said.all" | sed 's/^/mutants: is said to survive, and is none any more: /' >>"$said.wrong"
    [ -s "$said.wrong" ] || mv "$said.begun" "$said.right"
fi
if [ -e "$said.right" ]; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    sed 's/^/FAIL explore: /' "$said.wrong"
fi

# The figures of docs/verification.md were not typed.
if sh tests/figures.sh --check; then passed=$((passed + 1)); else failed=$((failed + 1)); fi

# The example for users: wrong, and made right.
if [ -z "${FULL:-}" ]; then
    :
elif $here/explore-cc -Wall -Wextra -o "$W/example" $here/example.c >"$W/example.log" 2>&1 && "$W/example" >"$W/example.log" 2>&1; then
    failed=$((failed + 1))
    echo "FAIL explore: nothing is found in example.c"
elif grep -q 'FAILED: deadlock' "$W/example.log" && $here/explore-cc -DRIGHT -o "$W/example" $here/example.c >>"$W/example.log" 2>&1 &&
    "$W/example" --schedules=2000 >>"$W/example.log" 2>&1; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "FAIL explore: example.c"
    tail -n 5 "$W/example.log"
fi

quick='cancel_hand_over cancel_hook team_lowest team_pool'
RANDOM_RUNS=400 PCT_RUNS=200 TREE_RUNS=400 TREE_BOUNDS='--preemptions=1 --stale=1 --faults=1'
for name in $quick; do
    scenario futex $here/scenarios/$name.c >"$W/$name.quick"
    case $(tail -n 1 "$W/$name.quick") in
    *passed) passed=$((passed + 1)) ;;
    *) failed=$((failed + 1)); echo "FAIL explore:"; cat "$W/$name.quick" ;;
    esac
done

# A report tells what the program calls, and what goes on inside of that if it is asked to.
"$W/futex/team_pool" --schedules=1 --max-steps=300 >"$W/outside" 2>&1
"$W/futex/team_pool" --schedules=1 --max-steps=300 --inside >"$W/inside" 2>&1
if grep -q 'T0 twill_parallel_for: [0-9]* step.*team_pool.c:' "$W/outside" &&
    grep -q "T1 [0-9]* steps* of twill's own" "$W/outside" && grep -q '| *T1 [a-z].*h:[0-9]' "$W/inside" &&
    ! grep -q "steps* of twill's own" "$W/inside"; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "FAIL explore: the steps of a call are not told in one line:"
    head -n 12 "$W/outside"
fi

# It fits into a screen, and has at least how each thread ends.
"$W/futex/team_pool" --schedules=1 --max-steps=300 --verbose >"$W/verbose" 2>&1
if [ "$(wc -l <"$W/inside")" -le 40 ] && [ "$(grep -c '[0-9] steps more, --verbose shows them' "$W/inside")" = 1 ] &&
    [ "$(wc -l <"$W/verbose")" -gt 100 ] && ! grep -q 'steps more' "$W/verbose" &&
    awk '$1 !~ /^[0-9]+$/ || !match($0, / T[0-9]+ /) { next }
        { who = substr($0, RSTART, RLENGTH) }
        NR == FNR { last[who] = $1; next }
        { seen[who] = $1 }
        END { for (who in last) { n++; if (seen[who] != last[who]) exit 1 } exit n < 2 }' "$W/verbose" "$W/inside"; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "FAIL explore: a report is no screen, or leaves out how a thread ends:"
    cat "$W/inside"
fi

# T= is a regular expression, and says when it fits nothing.
fits() {
    [ "$(printf '%s\n' queue_lock a_queue pipe_x pipe_xy | T='^queue|_x$' named | tr '\n' ' ')" = 'queue_lock pipe_x ' ] || return 1
    for none in '^no_such_name$' '('; do
        T=$none sh $here/explore.sh >"$W/fits" 2>&1
        [ $? -eq 2 ] && [ -s "$W/fits" ] || return 1
    done
}
if fits; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
    echo "FAIL explore: T= does not choose by a regular expression:"
    cat "$W/fits"
fi
total
