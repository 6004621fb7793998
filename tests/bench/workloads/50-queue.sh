# producer_consumer: 8-byte items through a bounded queue, wall time over items. Sourced by run.sh.

for shape in '1 1 1024' '2 2 1024' '4 4 1024' '1 1 5' '2 2 5' '4 4 5'; do
    set -- $shape
    items=400000
    [ "$3" -lt 64 ] || items=2000000 # threads take 1 to 3 ms to begin: as long as 100000 items
    section "queue $1+$2 threads, room for $3" ns/item
    contender peer crossbeam "$bin/crossbeam queue $shape $items"
    case $shape in 1\ 1\ *) contender peer std-sync-channel "$bin/crossbeam queue_std $shape $items" ;; esac
    contender row go-channel "$bin/queue_go $shape $items"
    contender row mutex-2-conditions "$bin/queue_mutex $shape 200000"
    contender twill twill-queue "$bin/twill_queue $shape $items"
    contender twill twill-batch-16 "$bin/twill_queue $shape $((2 * items)) 16"
    contender row twill-lock "$bin/twill_queue $shape $items 1 lock"
    contender row twill-priority "$bin/twill_queue $shape $((items / 2)) 1 priority"
    case $shape in
    1\ 1\ 1024)
        contender row least-lock "$bin/queue_floor $shape $items"
        contender row least-lock-by-store "$bin/queue_floor $shape $items 1 store"
        goal "queue, $1+$2 threads, room for $3" twill-queue median '1.0 x best'
        ;;
    1\ 1\ 5) contender row least-cells "$bin/cells_floor $shape $items" ;;
    2\ 2\ 1024) goal "queue, $1+$2 threads, room for $3" twill-queue median '0.85 x best' ;;
    4\ 4\ 1024) goal "queue, $1+$2 threads, room for $3" twill-queue median '0.8 x best' ;;
    esac
    case $3 in
    1024)
        goal "queue, $1+$2 threads, room for $3" twill-queue median '0.35 x go-channel'
        goal "queue, $1+$2 threads, room for $3" twill-queue median '0.12 x mutex-2-conditions'
        goal "the lock engine, $1+$2 threads" twill-lock median '2 x twill-queue'
        goal "batches of 16, $1+$2 threads" twill-batch-16 median '0.35 x twill-queue'
        ;;
    *)
        goal "queue, $1+$2 threads, room for $3" twill-queue median '1.05 x best'
        goal "queue, $1+$2 threads, room for $3" twill-queue median '0.7 x go-channel'
        ;;
    esac
done
