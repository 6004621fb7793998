# fan_out_fan_in: tasks whose results one thread adds up, wall time over tasks. Sourced by run.sh.

for shape in '1000000 0' '200000 1000'; do
    set -- $shape
    section "fan $1 tasks of $2 steps" ns/task
    contender peer go-channels "$bin/fan_go $shape"
    contender peer tbb-task-group "$bin/fan_tbb $shape"
    contender twill twill-fan "$bin/twill_fan call $shape"
    contender row twill-stream "$bin/twill_fan stream $shape"
    contender row twill-object "$bin/twill_fan object $shape"
    contender row two-lines "$bin/fan_floor $shape"
    goal "fan of $2 steps against channels" twill-fan median '0.5 x go-channels'
done
