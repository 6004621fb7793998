# parallel_map while strangers compute on the same cores: who waits for a thread that is not running
# waits for whole time slices. Sourced by run.sh.

loaded_contenders() {
    contender serial serial "$bin/serial map $1"
    contender peer libgomp "$bin/libgomp map-static $1"
    contender peer libomp "$bin/libomp map-static $1"
    contender peer tbb "$bin/tbb map $1"
    contender peer pthreadpool "$bin/pthreadpool map $1"
    contender peer rayon "$bin/rayon map $1"
    contender peer go "$bin/go map $1"
    contender twill twill-range "$bin/twill_map range $1"
    contender twill twill-typed "$bin/twill_map typed $1"
}

# 300 calls last about as long as two time slices: a run that is unlucky once shows it. 2000 calls
# tell what a share of the machine is worth in the long run.
for calls in 300 2000; do
    section "loaded map 100000 items, mean of $calls calls" ns/call
    load 2
    calls $calls
    loaded_contenders 100000
    for form in range typed; do
        goal "beside 2 spinners, worst $calls" twill-$form max '2.5 x serial'
    done
done

# One call of 30 us can meet a time slice of several ms, the serial loop's as well: hence no goal.
section 'loaded map 100000 items, longest single call in 0.2 s' worst-ns/call
load 2
budget 200
loaded_contenders '100000 worst'
