# pipeline: three serial stages in order, wall time over items. Sourced by run.sh.

for shape in '85 ns|70|400000|0.65|0.7' '1 us|800|40000|0.9|0.53'; do
    cost=${shape%%|*} rest=${shape#*|}
    steps=${rest%%|*} rest=${rest#*|}
    items=${rest%%|*} rest=${rest#*|}
    section "pipeline of three $cost stages" ns/item
    contender serial serial "$bin/pipe_serial $items $steps"
    contender peer tbb "$bin/pipe_tbb $items $steps 64"
    contender peer go-channels "$bin/pipe_go $items $steps 1024"
    contender peer crossbeam "$bin/crossbeam pipeline $items $steps 1024"
    contender twill twill-pipeline "$bin/twill_pipe $items $steps 1024"
    contender row twill-64-tokens "$bin/twill_pipe $items $steps 64"
    contender row twill-9-tokens "$bin/twill_pipe $items $steps 9"
    goal "pipeline, $cost stages" twill-pipeline median "${rest%|*} x best"
    goal "pipeline, $cost stages" twill-pipeline median "${rest#*|} x serial"
done
