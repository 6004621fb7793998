# graceful_shutdown: from the request until the last of 8 threads that were blocked in six kinds of
# waits is out and joined; median of 21. Sourced by run.sh.

section "shutdown, 8 waiting threads" ns
contender row condition-broadcast "$bin/peer_shutdown"
contender twill twill-request "$bin/twill_shutdown call"
contender twill twill-signal "$bin/twill_shutdown signal"
goal 'request to all waiters out' twill-request median 10000000
goal 'signal to all waiters out' twill-signal median 10000000
