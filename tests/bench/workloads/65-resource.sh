# resource_pool: acquire and release, wall time over pairs. Sourced by run.sh.

for shape in '1 1' '4 2' '4 4'; do
    set -- $shape
    section "resource pool, $1 threads, $2 resources" ns/pair
    contender peer crossbeam "$bin/crossbeam resource $shape 400000"
    contender peer go-channel "$bin/resource_go $shape 200000"
    contender peer mutex-condition "$bin/resource_mutex $shape 200000"
    contender twill twill-pool "$bin/twill_resource $shape 400000"
    contender row twill-barging "$bin/twill_resource $shape 400000 barging"
    case $shape in
    '1 1')
        contender row two-exchanges "$bin/resource_floor $shape 400000"
        goal 'resource pool, 1 thread' twill-pool median '0.55 x crossbeam'
        ;;
    '4 2') goal 'resource pool, 4 threads on 2' twill-pool median '0.8 x crossbeam' ;;
    esac
done
