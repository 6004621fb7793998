# progress_tracker: updates by two threads at once, wall time over updates. Sourced by run.sh.

section 'progress update, 2 threads' ns/update
contender peer atomic-add "$bin/counter atomic 2 4000000"
contender peer go-atomic "$bin/go progress 2 4000000"
contender peer mutex "$bin/counter mutex 2 2000000"
contender peer tqdm "$bin/tqdm 2 200000"
contender twill twill-progress "$bin/twill_progress 2 10000000"
goal 'progress update' twill-progress median '4'
