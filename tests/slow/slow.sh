#!/usr/bin/env bash
# slow.sh - test programs on a machine that stands still now and then, or has hardly any processor for them: what fails
# has counted on time. Each test by itself, in each of these ways:
#
#   stall   threads stand still by themselves where they call the system (stall.c): costs no processor
#   quota   all of it may run 1 of 10, 2 of 20 or 5 of 100 ms, half the time on one processor
#           (needs root and the cpu controller of cgroup v1 or v2)
#   stop    the process is stopped and goes on, at any time
#
#   slow.sh PROGRAM...   WAYS='stall stop' [all]  ROUNDS=1  SEED=1  ONLY=part of a test's name
#                        LIMIT=180 s a test  AT_ONCE=16  STALL_MS=60, the longest of stall.c
#
# Ends with `N passed, N failed`.
set -u
here=$(cd "$(dirname "$0")" && pwd)

# group FOLDER US PERIOD: a control group that may run so long of each period; prints where its processes are listed.
group() {
    mkdir -p "$1" || return
    if [ -f "$1/cpu.cfs_quota_us" ]; then
        echo "$3" >"$1/cpu.cfs_period_us" && echo "$2" >"$1/cpu.cfs_quota_us"
    else
        [ -f "$1/cpu.max" ] && echo "$2 $3" >"$1/cpu.max"
    fi && echo "$1/cgroup.procs"
}
groups_at() {
    local at found
    for at in /sys/fs/cgroup/cpu /sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup; do
        found=$(group "$at/slow.$$" 1000 10000)
        rmdir "$at/slow.$$"
        [ -z "$found" ] || { echo "$at"; return; }
    done 2>/dev/null
}

stall() { STALL_SEED=$RANDOM STALL_ONE_IN=$((8 << RANDOM % 5)) LD_PRELOAD=$SLOW_WORK/stall.so "$@"; }

quota() {
    local shares=('1000 10000' '2000 20000' '5000 100000') at=$SLOW_GROUPS/slow.$$ list status
    [ $((RANDOM % 2)) = 1 ] || set -- taskset -c "$((RANDOM % $(nproc)))" "$@"
    # shellcheck disable=SC2086 # two words
    list=$(group "$at" ${shares[RANDOM % 3]})
    (echo "$BASHPID" >"$list" && exec "$@")
    status=$?
    rmdir "$at"
    return $status
}

stop() {
    local all
    "$@" &
    while sleep "0.0$((RANDOM % 80))"; do
        all=$(pgrep -P $!) || break # the harness watches; its child has the tests
        kill -STOP $all 2>/dev/null
        sleep "0.0$((RANDOM % 80))"
        kill -CONT $all 2>/dev/null
    done
    wait $!
}

if [ "${1:-}" = --one ]; then # way, program, test, number
    RANDOM=$((SEED * 1000 + $5))
    log=$SLOW_WORK/$5.log
    begin=$(date +%s)
    said=FAIL
    if "$2" "$3" -t "${LIMIT:-180}" -v "$4" >"$log" 2>&1 </dev/null; then said=pass; fi
    echo "$said $2 ${3##*/} $4 ($(($(date +%s) - begin)) s)"
    [ $said = pass ] || sed -e '/^ok /d' -e 's/^/    /' "$log" | tail -n 30
    exit 0
fi

SLOW_WORK=$(mktemp -d) || exit 1
trap 'rm -rf "$SLOW_WORK"' EXIT
export SLOW_WORK SLOW_GROUPS="${SLOW_GROUPS:-$(groups_at)}" SEED="${SEED:-1}"
ways=${WAYS:-stall quota stop}
[ -n "$SLOW_GROUPS" ] || { ways=${ways//quota/}; echo "SKIP quota: the processors are not ours to share out"; }
${CC:-cc} -shared -fPIC -O1 -o "$SLOW_WORK/stall.so" "$here/stall.c" || exit 1
number=0
for ((round = 0; round < ${ROUNDS:-1}; round++)); do
    for way in $ways; do
        for program; do
            for test in $("$program" -l "${ONLY:-}"); do echo "$way $program $test $((number += 1))"; done
        done
    done
done >"$SLOW_WORK/list"
shuf --random-source=<(yes "$SEED") "$SLOW_WORK/list" | xargs -P "${AT_ONCE:-16}" -L 1 bash "$0" --one |
    tee "$SLOW_WORK/said" | grep --line-buffered -v '^pass'
awk '/^pass/ { passed++ } /^FAIL/ { failed++ }
     END { printf "%d passed, %d failed\n", passed, failed; exit failed > 0 || !passed }' "$SLOW_WORK/said"
