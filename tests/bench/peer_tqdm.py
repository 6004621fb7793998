"""tqdm, drawing into memory. usage: peer_tqdm.py threads updates-each

tqdm's update is not atomic, so with two threads its count may come out short: what is missing goes
to standard error, and only a count that is too high, or far too low, is called wrong.
"""
import io
import sys
import threading
import time

import tqdm

threads, each = int(sys.argv[1]), int(sys.argv[2])
total = threads * each
bar = tqdm.tqdm(total=total, file=io.StringIO())


def work():
    update = bar.update
    for _ in range(each):
        update(1)


crew = [threading.Thread(target=work) for _ in range(threads)]
start = time.perf_counter_ns()
for thread in crew:
    thread.start()
for thread in crew:
    thread.join()
took = time.perf_counter_ns() - start
if bar.n > total or bar.n < total / 2:
    sys.exit("WRONG RESULT: %d of %d updates counted" % (bar.n, total))
print("ns/update %.3f" % (took / total))
if bar.n != total:
    print("%d of %d updates counted" % (bar.n, total), file=sys.stderr)
