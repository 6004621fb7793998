# parallel_map: reduce, scan, filter, find and sort, and a loop in a loop. Sourced by run.sh.
# "-item" is a call by pointer for each item or pair. `-alone` is one thread of the C++ library.

for n in 10000 1000000; do
    section "reduce $n doubles" ns/call
    contender serial serial "$bin/algorithms_serial reduce $n"
    for peer in libgomp libomp tbb std gnu; do
        contender peer $peer "$bin/algorithms_$peer reduce $n"
    done
    contender peer rayon "$bin/rayon reduce $n"
    # the only other one whose result does not depend on time
    contender row tbb-fixed "$bin/algorithms_tbb reduce-fixed $n"
    contender twill twill-ordered "$bin/twill_algorithms reduce $n"
    contender twill twill-typed "$bin/twill_algorithms reduce-typed $n"
    contender twill twill-unordered "$bin/twill_algorithms reduce-unordered $n"
    goal "sum of $n, same bits" twill-typed median '1.0 x best'
    # whose loops are plain ones, too
    goal "sum of $n, same bits, plain loop" twill-ordered median '1.0 x tbb-fixed'
    goal "sum of $n, unordered, plain loop" twill-unordered median '1.0 x tbb'
done

section 'scan 1000000 ints' ns/call
contender serial serial "$bin/algorithms_serial scan 1000000"
for peer in libgomp libomp tbb std gnu; do
    contender peer $peer "$bin/algorithms_$peer scan 1000000"
done
contender row twill-item "$bin/twill_algorithms scan-item 1000000"
contender twill twill-typed "$bin/twill_algorithms scan-typed 1000000"
goal 'scan' twill-typed median '1.0 x best'

section 'filter 1000000 ints, half kept' ns/call
contender serial serial "$bin/algorithms_serial filter 1000000"
contender peer std "$bin/algorithms_std filter 1000000"
contender peer rayon "$bin/rayon filter 1000000"
contender twill twill-item "$bin/twill_algorithms filter-item 1000000"
contender twill twill-typed "$bin/twill_algorithms filter-typed 1000000"
goal 'filter' twill-typed median '1.0 x best'
goal 'filter, by pointer' twill-item median '1.0 x best'

for place in middle none; do
    section "find in 1000000 ints, $place" ns/call
    contender serial serial "$bin/algorithms_serial find 1000000 $place"
    for peer in libgomp libomp std gnu; do
        contender peer $peer "$bin/algorithms_$peer find 1000000 $place"
    done
    contender peer rayon "$bin/rayon find 1000000 $place"
    contender row twill-item "$bin/twill_algorithms find-item 1000000 $place"
    contender twill twill-typed "$bin/twill_algorithms find-typed 1000000 $place"
    goal "find, $place" twill-typed median '1.0 x best'
done

# sort_contenders ENTRY ARGUMENTS: the peers are those that are stable, as twill is
sort_contenders() {
    entry=$1
    shift
    contender serial serial "$bin/algorithms_serial $entry $*"
    contender peer rayon "$bin/rayon $entry $*"
    contender peer std "$bin/algorithms_std $entry $*"
    contender peer gnu "$bin/algorithms_gnu $entry $*"
    contender row std-alone "$bin/algorithms_std $entry-alone $*"
    contender row rayon-unstable "$bin/rayon $entry-unstable $*"
    contender row std-unstable "$bin/algorithms_std $entry-unstable $*"
    contender row gnu-unstable "$bin/algorithms_gnu $entry-unstable $*"
    contender row tbb-unstable "$bin/algorithms_tbb $entry-unstable $*"
    contender twill twill-item "$bin/twill_algorithms $entry-item $*"
    contender twill twill-typed "$bin/twill_algorithms $entry-typed $*"
    goal "$entry${2:+, $2}, stable" twill-typed median '1.0 x best'
    goal "$entry${2:+, $2}, by pointer" twill-item median '1.3 x best'
}

for shape in random nearly; do
    section "sort 1000000 ints, $shape" ns/call
    budget 200
    sort_contenders sort 1000000 $shape
done

section 'sort 100000 records of 64 bytes' ns/call
budget 100
sort_contenders records 100000

for steps in 0 20; do
    section "loop of 64 by loops of 1000, $steps steps" ns/call
    contender serial serial "$bin/algorithms_serial nest 64 1000 $steps"
    contender peer libgomp "$bin/algorithms_libgomp nest 64 1000 $steps"
    contender peer libomp "$bin/algorithms_libomp nest 64 1000 $steps"
    # not nested any more: the two loops made one
    contender row libgomp-as-one "$bin/algorithms_libgomp nest-collapsed 64 1000 $steps"
    contender peer tbb "$bin/algorithms_tbb nest 64 1000 $steps"
    contender peer rayon "$bin/rayon nest 64 1000 $steps"
    contender twill twill-range "$bin/twill_algorithms nest 64 1000 $steps"
    goal "a loop in a loop, $steps steps" twill-range median '1.0 x best'
done
