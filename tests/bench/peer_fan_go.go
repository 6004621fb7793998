// Go: tasks through one buffered channel, results through another, added up by the main goroutine.
// usage: peer_fan_go tasks steps
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

func number(i int) uint64 {
	v, err := strconv.ParseUint(os.Args[i], 10, 64)
	if err != nil {
		panic("not a number: " + os.Args[i])
	}
	return v
}

func work(x, steps uint64) uint64 {
	for ; steps > 0; steps-- {
		x = x*2862933555777941757 + 3037000493
	}
	return x
}

func main() {
	n, steps := number(1), number(2)
	tasks, results := make(chan uint64, 1024), make(chan uint64, 1024)
	start := time.Now()
	for k := 0; k < runtime.GOMAXPROCS(0); k++ {
		go func() {
			for v := range tasks {
				if work(v, steps) == 0 {
					v = 1
				}
				results <- v
			}
		}()
	}
	go func() {
		for v := uint64(1); v <= n; v++ {
			tasks <- v
		}
		close(tasks)
	}()
	var sum uint64
	for k := uint64(0); k < n; k++ {
		sum += <-results
	}
	took := time.Since(start)
	if sum != n*(n+1)/2 {
		fmt.Fprintln(os.Stderr, "WRONG RESULT: fan")
		os.Exit(3)
	}
	fmt.Printf("ns/task %.3f\n", float64(took.Nanoseconds())/float64(n))
}
