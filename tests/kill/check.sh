#!/usr/bin/env bash
# check.sh - graceful_shutdown from outside: real signals at random moments, and how a shell sees the
# end. KILL_ROUNDS=20 [40 with FULL=1; 200 for a thorough run] rounds; KILL_SEED= repeats one. Ends with
# `N passed, N failed`.
[ -n "${BASH_VERSION:-}" ] || { command -v bash >/dev/null && exec bash "$0" "$@"; echo "SKIP kill: apt-get install bash"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
set -u
CC=${CC:-cc}
BUILD=${BUILD:-build}
here=tests/kill
W=$BUILD/kill
rounds=${KILL_ROUNDS:-$([ -n "${FULL:-}" ] && echo 40 || echo 20)}
RANDOM=${KILL_SEED:=$((RANDOM))}
passed=0 failed=0
mkdir -p "$W"

fail() { echo "FAIL kill: $* (KILL_SEED=$KILL_SEED)"; failed=$((failed + 1)); }
same() { if [ "$2" = "$3" ]; then passed=$((passed + 1)); else fail "$1: $2, not $3"; fi; }

for program in kill_queue kill_exit; do
    $CC -std=c11 ${FLAGS:--O0} -Wall -Wextra -Werror -Ipatterns -pthread -o "$W/$program" $here/$program.c || {
        echo "FAIL kill: $program does not build"; echo "0 passed, 1 failed"; exit 1; }
done

# ---- signals at random moments: nothing is lost ----

round() {  # mode, signal: starts the program, sends signals, checks its books
    : >"$W/out" # the last one's "ready" must be gone before this one is asked for it
    "$W/kill_queue" "$1" >"$W/out" 2>"$W/err" &
    local pid=$! status line
    until grep -q ready "$W/out" || ! kill -0 $pid; do sleep 0.005; done
    sleep "0.0$((RANDOM % 6))$((RANDOM % 10))"
    kill -"$2" $pid
    for ((i = RANDOM % 3; i > 0; i--)); do # a storm behind it
        sleep "0.00$((RANDOM % 10))"
        kill -"$2" $pid 2>/dev/null
    done
    wait $pid 2>/dev/null
    status=$?
    line=$(grep '^submitted' "$W/out") || { fail "$1 $2: status $status, no books: $(cat "$W/err")"; return; }
    # shellcheck disable=SC2086 # words
    set -- "$1" "$2" $line
    [ "${4:-}" = $((${6:-0} + ${8:-0} + ${10:-0})) ] || { fail "$1 $2: $line"; return; }
    [ "${12:-}" = "$(kill -l "$2")" ] && [ $status = $((128 + ${12:-0})) ] || { fail "$1 $2: status $status: $line"; return; }
    passed=$((passed + 1))
}
for ((n = 0; n < rounds; n++)); do
    case $((n % 2)) in 0) mode=drain ;; 1) mode=cancel ;; esac
    case $((RANDOM % 2)) in 0) signal=TERM ;; 1) signal=INT ;; esac
    # bash starts a job in the background with SIGINT ignored, but for job control
    if [ $signal = INT ]; then set -m; fi
    round $mode $signal 2>/dev/null
    set +m
done

# ---- as a shell sees it ----

end_of() { sh -c "$*" 2>/dev/null; echo $?; }
cd "$W" || exit 1
same "dies of SIGTERM" "$(end_of './kill_exit TERM; exit $?')" 143
same "exits with 128 + n" "$(end_of './kill_exit TERM code; exit $?')" 143
same "by a call" "$(end_of './kill_exit call; exit $?')" 3
# Ctrl-C goes to all of the terminal's group. The shell waits how its program takes it: it stops if
# that died of SIGINT, and goes on if it exits, with 130 or anything.
if command -v setsid >/dev/null; then
    same "Ctrl-C stops the script" "$(setsid -w bash -c './kill_exit group; echo went on' 2>/dev/null)" ""
    same "130 does not" "$(setsid -w bash -c './kill_exit group code; echo went on' 2>/dev/null)" "went on"
else
    echo "SKIP kill: Ctrl-C on a script: apt-get install util-linux"
fi
same "nohup: SIGHUP stays ignored" "$(end_of 'nohup ./kill_exit HUP </dev/null')" 4
same "without it, it stops" "$(end_of './kill_exit HUP')" 129
same "in the background SIGINT stays ignored" "$(end_of './kill_exit INT & wait $!')" 4
same "take_ignored" "$(end_of './kill_exit INT take & wait $!')" 130
same "an exec'd child is not deaf" "$(end_of './kill_exit exec')" 0
same "a forked child hears nothing, its parent goes on" "$(end_of './kill_exit fork')" 0
if command -v unshare >/dev/null && unshare -rpf --mount-proc true 2>/dev/null; then
    same "process 1" "$(end_of 'unshare -rpf --mount-proc ./kill_exit TERM')" 143
    same "process 1, second press" "$(end_of 'unshare -rpf --mount-proc ./kill_exit twice')" 143
else
    echo "SKIP kill: process 1: no user namespaces here"
fi
same "second press, all stuck" "$(end_of './kill_exit twice')" 143
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
