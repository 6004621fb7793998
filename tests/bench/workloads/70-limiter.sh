# rate_limiter: a try that finds tokens, wall time over tries; and millionths by which a rate is
# missed over 3 s when one thread waits for it. Sourced by run.sh.

for threads in 1 4; do
    section "limiter try, $threads threads" ns/try
    contender peer mutex-bucket "$bin/limiter_mutex try $threads 2000000"
    [ -x "$bin/limiter_go" ] && contender peer go-x-time-rate "$bin/limiter_go try $threads 1000000"
    contender twill twill-limiter "$bin/twill_limiter try $threads 4000000"
    if [ $threads = 1 ]; then
        goal 'limiter try' twill-limiter median '0.75 x mutex-bucket'
    else
        goal 'limiter try' twill-limiter median '0.55 x mutex-bucket'
    fi
    goal 'limiter try' twill-limiter median '0.3 x go-x-time-rate'
done
for rate in 1000 5000; do
    section "limiter, $rate a second for 3 s" ppm-off
    contender peer sleep-under-the-lock "$bin/limiter_mutex run $rate 3"
    [ -x "$bin/limiter_go" ] && contender peer go-x-time-rate "$bin/limiter_go run $rate 3"
    contender twill twill-limiter "$bin/twill_limiter run $rate 3"
    goal 'limiter, long-run rate' twill-limiter median '1000'
done
