// Go: a goroutine a stage, buffered channels between them.
// usage: peer_pipe_go items steps [capacity]
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

func number(i int, otherwise uint64) uint64 {
	if i >= len(os.Args) {
		return otherwise
	}
	v, err := strconv.ParseUint(os.Args[i], 10, 64)
	if err != nil || v < 1 {
		panic("not a count: " + os.Args[i])
	}
	return v
}

//go:noinline
func work(x uint64, steps uint64) uint64 {
	for ; steps > 0; steps-- {
		x = x*2862933555777941757 + 3037000493
	}
	return x
}

func main() {
	items, steps, capacity := number(1, 1000000), number(2, 70), number(3, 1024)
	ab, bc, done := make(chan uint64, capacity), make(chan uint64, capacity), make(chan uint64)
	start := time.Now()
	go func() {
		var hash uint64
		for i := uint64(0); i < items; i++ {
			hash = work(hash^i, steps)
			ab <- hash
		}
		close(ab)
	}()
	go func() {
		var hash uint64
		for v := range ab {
			hash = work(hash^v, steps)
			bc <- hash
		}
		close(bc)
	}()
	go func() {
		var hash uint64
		for v := range bc {
			hash = work(hash^v, steps)
		}
		done <- hash
	}()
	hash := <-done
	took := time.Since(start)
	var a, b, c uint64
	for i := uint64(0); i < items; i++ {
		a = work(a^i, steps)
		b = work(b^a, steps)
		c = work(c^b, steps)
	}
	if hash != c {
		fmt.Fprintln(os.Stderr, "WRONG RESULT: pipeline")
		os.Exit(3)
	}
	fmt.Printf("ns/item %.3f\n", float64(took.Nanoseconds())/float64(items))
}
