# timeout_fallback: a function with a deadline. Sourced by run.sh.

section 'call with a deadline' ns/call
contender peer std-async "$bin/timeout_async call"
contender peer thread-a-call "$bin/timeout_thread call"
contender twill twill-timeout "$bin/twill_timeout call"
contender row twill-one-call "$bin/twill_timeout one call"
goal 'call with a deadline' twill-timeout median '0.6 x best'

section 'overrun past a deadline of 2 ms' ns
contender peer std-async "$bin/timeout_async overrun 2000"
contender peer thread-a-call "$bin/timeout_thread overrun 2000"
contender twill twill-timeout "$bin/twill_timeout overrun 2000"
contender row twill-one-call "$bin/twill_timeout one overrun 2000"
goal 'overrun past the deadline' twill-timeout median 200000
