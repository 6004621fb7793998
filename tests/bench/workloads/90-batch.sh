# batch_processing: a trivial item, by how many share a call (20000 items a round). Sourced by run.sh.

for form in process batcher; do
    section "batches of a trivial item: $form" ns/item
    for size in 1 10 100 1000; do
        contender twill "$form-$size" "$bin/twill_batch $form $size"
    done
    goal "$form: batches of 100 against 1" "$form-100" median "0.2 x $form-1"
done
