# worker_pool under load: more workers than CPUs, what a bound is good for, what a refusal costs. Sourced by run.sh.

section 'workers for 4000 tasks of some 20 us' ns/task
for workers in 1 2 4 16 64; do contender twill "workers-$workers" "$bin/twill_load compute $workers"; done

section 'how long 99 of 100 of these take, once begun' ns
for workers in 1 2 4 16 64; do contender twill "workers-$workers" "$bin/twill_load compute99 $workers"; done

section 'workers for 512 tasks that wait for 1 ms' ns/task
for workers in 1 2 4 16 64 256; do contender twill "workers-$workers" "$bin/twill_load sleep $workers"; done

# The bound: so many tasks before it, as long as the median each. 4000 is all of them, as if there were no bound.
section 'how long 99 of 100 tasks wait, flooded' ns
for room in 16 128 1024 4000; do
    contender row "bound-$room" "$bin/twill_load bound $room"
    contender twill "room-$room" "$bin/twill_load room $room"
done
goal 'waiting, room for 16' room-16 median '1.5 x bound-16'
goal 'waiting, room for 128' room-128 median '1.5 x bound-128'
goal 'waiting, room for 1024' room-1024 median '1.5 x bound-1024'

section 'a task that is refused' ns/task
for room in 16 128 1024; do contender twill "room-$room" "$bin/twill_load refuse $room"; done
goal 'a refusal, whatever the room' room-1024 median '1.5 x room-16'
