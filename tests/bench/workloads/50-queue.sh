# producer_consumer: 8-byte items through a bounded queue, wall time over items. Sourced by run.sh.

for shape in '1 1 1024' '2 2 1024' '4 4 1024' '2 2 5'; do
    set -- $shape
    section "queue $1+$2 threads, room for $3" ns/item
    contender peer go-channel "$bin/queue_go $shape 400000"
    contender peer mutex-2-conditions "$bin/queue_mutex $shape 200000"
    contender twill twill-queue "$bin/twill_queue $shape 400000"
    contender twill twill-batch-16 "$bin/twill_queue $shape 800000 16"
    case $3 in
    1024)
        goal "queue, room for $3" twill-queue median '0.35 x go-channel'
        goal "queue, room for $3" twill-queue median '0.12 x mutex-2-conditions'
        goal 'batches of 16' twill-batch-16 median '0.35 x twill-queue'
        ;;
    *)
        goal "queue, room for $3" twill-queue median '0.7 x go-channel'
        ;;
    esac
done
