# parallel_map: 20 000 items of unequal cost; few schedules are good at all three shapes.
# Sourced by run.sh.

for shape in 'u rising' 'd falling' 'p Pareto tail'; do
    what="${shape%% *} 20000"
    section "skew ${shape#* }" ns/call
    budget 120
    contender serial serial "$bin/serial skew $what"
    contender peer libgomp-static "$bin/libgomp skew-static $what"
    contender peer libgomp-dyn16 "$bin/libgomp skew-dynamic $what"
    contender peer libgomp-guided "$bin/libgomp skew-guided $what"
    contender peer libomp-dyn16 "$bin/libomp skew-dynamic $what"
    contender peer libomp-guided "$bin/libomp skew-guided $what"
    contender peer tbb "$bin/tbb skew $what"
    contender peer pthreadpool "$bin/pthreadpool skew $what"
    contender peer rayon "$bin/rayon skew $what"
    contender peer go "$bin/go skew $what"
    contender twill twill-range "$bin/twill_map skew-range $what"
    contender twill twill-for "$bin/twill_map skew-for $what"
    goal "skew, ${shape#* }" twill-range median '1.03 x best'
    goal "skew, ${shape#* }" twill-for median '1.03 x best'
done
