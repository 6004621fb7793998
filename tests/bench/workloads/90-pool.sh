# worker_pool: empty tasks. `trip` is one task submitted and waited for on a warm pool, the median.
# Sourced by run.sh.

section 'tasks from outside' ns/task
contender peer mutex-and-list "$bin/pool_mutex outside 1000000"
[ -x "$bin/pool_go" ] && contender peer go-channel-pool "$bin/pool_go outside 1000000"
[ -x "$bin/pool_tbb" ] && contender peer tbb "$bin/pool_tbb outside 1000000"
contender twill twill-pool "$bin/twill_pool outside 1000000"
goal 'tasks from outside' twill-pool median '0.33 x best'

# With room for 1024, and then on the caller: what libgomp does past 64 tasks a thread.
section 'tasks from outside, run by the caller when full' ns/task
contender peer libgomp "$bin/pool_libgomp outside 1000000"
contender twill twill-caller-runs "$bin/twill_pool outside 1000000 caller"
goal 'tasks, run when full' twill-caller-runs median '0.6 x libgomp'

section 'tasks from tasks' ns/task
contender peer mutex-and-list "$bin/pool_mutex inside 1000"
[ -x "$bin/pool_tbb" ] && contender peer tbb "$bin/pool_tbb inside 1000"
contender twill twill-pool "$bin/twill_pool inside 1000"
contender row twill-caller-runs "$bin/twill_pool inside 1000 caller"
goal 'tasks from tasks' twill-pool median '0.25 x tbb'

section 'tasks with futures' ns/task
contender peer mutex-and-list "$bin/pool_mutex futures 300000"
[ -x "$bin/pool_tbb" ] && contender peer tbb "$bin/pool_tbb futures 300000"
contender twill twill-pool "$bin/twill_pool futures 300000"
goal 'tasks with futures' twill-pool median '0.2 x mutex-and-list'
goal 'tasks with futures, TBB' twill-pool median '0.5 x tbb'

section 'task and back' ns/task
contender peer mutex-and-list "$bin/pool_mutex trip 20000"
contender twill twill-pool "$bin/twill_pool trip 20000"
goal 'submit and wait for one' twill-pool median 1000
