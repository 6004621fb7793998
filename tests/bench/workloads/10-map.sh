# parallel_map: squares of n 32-bit numbers, and how small a call may be. Sourced by run.sh.

map_contenders() {
    contender serial serial "$bin/serial map $1"
    contender peer libgomp "$bin/libgomp map-static $1"
    contender peer libgomp-dyn4096 "$bin/libgomp map-dynamic $1"
    contender peer libomp "$bin/libomp map-static $1"
    contender peer tbb "$bin/tbb map $1"
    contender peer tbb-static "$bin/tbb map-static $1"
    contender peer pthreadpool "$bin/pthreadpool map $1"
    contender peer rayon "$bin/rayon map $1"
    contender peer go "$bin/go map $1"
    contender row new-threads "$bin/threads map $1"
    contender twill twill-range "$bin/twill_map range $1"
    contender twill twill-typed "$bin/twill_map typed $1"
}

section 'region 2 items, forced' ns/call
map_contenders 2
contender twill twill-forced "$bin/twill_map forced 2"
goal 'forced region, warm pool' twill-forced median '0.5 x libgomp'
goal 'forced region, the aim' twill-forced median '250'

section 'map 64 items' ns/call
map_contenders 64
contender twill twill-kept "$bin/twill_map kept 64"
contender twill twill-item "$bin/twill_map item 64"
contender twill twill-transient "$bin/twill_map transient 64"
goal 'call too small for threads' twill-range median 'serial + 50'
goal 'call too small for threads' twill-typed median 'serial + 50'
goal 'the same, options kept' twill-kept median 'serial + 50'

section 'map 1000 items' ns/call
map_contenders 1000
contender twill twill-kept "$bin/twill_map kept 1000"
contender twill twill-item "$bin/twill_map item 1000"
contender twill twill-forced "$bin/twill_map forced 1000"
contender twill twill-transient "$bin/twill_map transient 1000"
for form in range typed; do
    goal 'map of 1e3' twill-$form median '0.5 x best'
    goal 'map of 1e3' twill-$form median '1.35 x serial'
done

for n in 100000 10000000; do
    section "map $n items" ns/call
    map_contenders $n
    # the items cut in two once and for all, and two lines that change caches: nothing else
    contender row two-halves "$bin/map_floor map $n"
    # a call an item by pointer, which no compiler can vectorise: what twill-item is fairly held to
    contender row serial-item "$bin/serial map-item $n"
    contender row libgomp-item "$bin/libgomp map-item $n"
    contender row libomp-item "$bin/libomp map-item $n"
    contender row pthreadpool-item "$bin/pthreadpool map-item $n"
    contender twill twill-item "$bin/twill_map item $n"
    contender twill twill-forced "$bin/twill_map forced $n"
    contender twill twill-transient "$bin/twill_map transient $n"
    goal "map of $n" twill-range median '1.0 x best'
    goal "map of $n" twill-typed median '1.0 x best'
    goal "map of $n, by pointer" twill-item median '2.5 x best'
    goal "map of $n, by pointer" twill-item median '1.0 x libgomp-item'
done
