#!/bin/sh
# run.sh - builds the contenders, runs every workload, prints a table each and the goals at the end.
#
#     tests/bench/run.sh [rounds] [section-regex]     7 rounds of everything
#     tests/bench/run.sh quick [section-regex]        3 short rounds, while tuning
#     tests/bench/run.sh list                         names of the sections
#
# All contenders of a workload run in turn, round after round, so that what disturbs the machine
# disturbs all of them; each start waits (within bounds) for quiet CPUs. README.md says more.
#
# BENCH_ROUNDS     default of rounds                BENCH_SECTION  default of section-regex
# BENCH_THREADS    threads that compute at once (default: the CPUs online)
# BENCH_MS         length of a measurement in ms, instead of each section's own
# BENCH_ONLY       regex of the contenders to run
# BENCH_NOQUIET=1  do not wait for quiet CPUs
# BENCH_BUILD      where programs and results go (default build/bench)
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
root=$(cd "$here/../.." && pwd) || exit 1
BENCH_BUILD=${BENCH_BUILD:-${BUILD:-$root/build/bench}}
case $BENCH_BUILD in /*) ;; *) BENCH_BUILD=$PWD/$BENCH_BUILD ;; esac
BENCH_THREADS=${BENCH_THREADS:-$(getconf _NPROCESSORS_ONLN)}
# every runtime gets the same number; the rest of each runtime's settings stays as delivered
OMP_NUM_THREADS=$BENCH_THREADS RAYON_NUM_THREADS=$BENCH_THREADS GOMAXPROCS=$BENCH_THREADS
export BENCH_BUILD BENCH_THREADS OMP_NUM_THREADS RAYON_NUM_THREADS GOMAXPROCS
# shellcheck disable=SC2034 # the workload files use it
bin=$BENCH_BUILD
list=
rounds=${1:-${BENCH_ROUNDS:-7}} want=${2:-${BENCH_SECTION:-.}}
case $rounds in
list) list=yes rounds=1 ;;
quick) BENCH_MS=${BENCH_MS:-20} rounds=3 ;;
esac
case $rounds in *[!0-9]* | '' | 0)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
    ;;
esac
LC_ALL=C
export LC_ALL

work=$(mktemp -d) || exit 1
spinners=
stop_load() {
    # shellcheck disable=SC2086 # a list of process ids
    [ -n "$spinners" ] && kill $spinners 2>/dev/null && wait $spinners 2>/dev/null
    spinners=
}
trap 'stop_load; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
: >"$work/goals"
starts=0 busy=0 failures=0 began=0 stolen=0
results=$BENCH_BUILD/results.tsv
report=$work/report # kept as report.md if it is of everything

# Names that begin with _ are for the functions here: workload files, which are read into the same
# shell, are free to use all others but the settings that section() makes.

# ---- waiting for quiet ----

# Jiffies since boot, all and idle, from /proc/stat.
jiffies() {
    read -r _ _user _nice _sys _idle _io _irq _soft _steal _ </proc/stat
    _total=$((_user + _nice + _sys + _idle + _io + _irq + _soft + _steal))
}

# Until 80 ms in which the CPUs were at least 90 % idle, 15 s at most.
quiet() {
    starts=$((starts + 1))
    [ -n "${BENCH_NOQUIET:-}" ] || [ ! -r /proc/stat ] && return 0
    _tries=0
    while [ $_tries -lt 180 ]; do
        jiffies
        _total0=$_total _idle0=$_idle
        sleep 0.08
        jiffies
        [ $(((_idle - _idle0) * 10)) -ge $(((_total - _total0) * 9)) ] && return 0
        _tries=$((_tries + 1))
    done
    busy=$((busy + 1))
}

# ---- what a workload file calls ----

# section TITLE UNIT: ends the section before; budget, calls and load are back at their defaults
section() {
    finish
    title=$1 unit=$2 ms=50 fixed=0 spin=0
    : >"$work/contenders"
    : >"$work/goals_here"
}
budget() { ms=$1; } # ms a measurement
calls() { fixed=$1; } # exactly so many calls a measurement
load() { spin=$1; } # so many foreign processes spin meanwhile
# contender ROLE NAME COMMAND: ROLE is serial, peer (may be the best), row (only shown) or twill
contender() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$work/contenders"; }
# goal TEXT CONTENDER median|max|min LIMIT: LIMIT is "4" (ns), "serial + 50", "0.5 x best" or
# "0.5 x NAME", where a name stands for that contender's median
goal() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$work/goals_here"; }

# ---- running ----

# say COMMAND: what it prints is a part of the report
say() { "$@" | tee -a "$report"; }

# run_once NAME COMMAND: appends a line to the samples
run_once() {
    quiet
    _i=0
    while [ $_i -lt "$spin" ]; do
        # bounded, in case that this script is killed by force
        timeout 60 sh -c 'while :; do :; done' &
        spinners="$spinners $!"
        _i=$((_i + 1))
    done
    [ "$spin" -gt 0 ] && sleep 0.2 # until they spin and the scheduler has spread them
    # shellcheck disable=SC2086 # a program and its arguments
    BENCH_MS=${BENCH_MS:-$ms} BENCH_CALLS=$fixed timeout 30 $2 >"$work/out" 2>"$work/err"
    _status=$?
    stop_load
    _value=$(awk 'NF == 2 { print $2; exit }' "$work/out")
    if [ $_status -ne 0 ] || [ -z "$_value" ]; then
        failures=$((failures + 1))
        [ $_status -eq 124 ] && echo 'took more than 30 s' >>"$work/err"
        echo "bench: FAILED (status $_status): $2: $(tail -n 1 "$work/err")"
        _value=failed
    fi
    printf '%s\t%s\n' "$1" "$_value" >>"$work/samples"
    printf '%s\t%s\t%s\n' "$title" "$1" "$_value" >>"$results"
}

# The contenders that were built and are wanted, in an order that begins elsewhere each round.
line_up() {
    while IFS='	' read -r _role _name _command; do
        [ -x "${_command%% *}" ] && printf '%s\n' "$_name" | grep -Eq "${BENCH_ONLY:-.}" &&
            printf '%s\t%s\t%s\n' "$_role" "$_name" "$_command"
    done <"$work/contenders" >"$work/present"
}
rotated() {
    awk -v by="$1" '{ line[NR] = $0 }
        END { for (i = 0; i < NR; i++) print line[(i + by) % NR + 1] }' "$work/present"
}

finish() {
    [ -n "$title" ] || return 0
    if [ -n "$list" ]; then
        echo "$title"
        return 0
    fi
    printf '%s\n' "$title" | grep -Eq -e "$want" || return 0
    line_up
    [ -s "$work/present" ] || return 0
    : >"$work/samples"
    _round=0
    while [ $_round -lt "$rounds" ]; do
        rotated $_round >"$work/order"
        while IFS='	' read -r _role _name _command <&3; do
            run_once "$_name" "$_command"
        done 3<"$work/order"
        _round=$((_round + 1))
    done
    say echo
    awk -v title="$title" -v unit="$unit" -v goals_out="$work/goals" -f "$here/report.awk" \
        "$work/present" "$work/samples" "$work/goals_here" >"$work/table" || failures=$((failures + 1))
    say cat "$work/table"
}

# ---- all of it ----

title=
if [ -z "$list" ]; then
    "$here/build.sh" || failures=$((failures + 1))
    : >"$results"
    [ -r /proc/stat ] && jiffies && began=$_total stolen=$_steal
    _cpu=$([ -r /proc/cpuinfo ] && sed -n '/^model name/{s/.*: /, /p;q;}' /proc/cpuinfo)
    say echo "$rounds rounds, $BENCH_THREADS threads$_cpu, $(uname -srm), $(date -u +%Y-%m-%d)."
fi
for file in "$here"/workloads/*.sh; do
    # shellcheck disable=SC1090
    . "$file"
done
finish
[ -n "$list" ] && exit 0
if [ -s "$work/goals" ]; then
    say printf '\n### goals\n\n'
    say awk -f "$here/goals.awk" "$work/goals"
fi
[ "$want" != . ] || [ -n "${BENCH_ONLY:-}" ] || cp "$report" "$BENCH_BUILD/report.md"
printf '\nbench: %d runs, %d of them began on CPUs that would not get quiet, %d failures\n' \
    "$starts" "$busy" "$failures"
[ $((busy * 20)) -gt "$starts" ] &&
    echo "bench: WARNING: the machine was too busy for these figures to mean much; measure again"
if [ -r /proc/stat ]; then
    jiffies
    echo "bench: meanwhile the host took $(((_steal - stolen) * 100 / (_total - began + 1))) %" \
        "of the CPUs for others"
fi
echo "bench: all values are in ${results#"$root"/}"
[ "$failures" -eq 0 ]
