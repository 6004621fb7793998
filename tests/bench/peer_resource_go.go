// Go: a buffered channel as a pool.
// usage: peer_resource_go threads resources pairs
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

type resource struct {
	uses uint64
	_    [120]byte
}

func number(i int) uint64 {
	v, err := strconv.ParseUint(os.Args[i], 10, 64)
	if err != nil || v < 1 {
		panic("not a count: " + os.Args[i])
	}
	return v
}

func main() {
	threads, resources, each := number(1), number(2), number(3)/number(1)
	pool, all := make(chan *resource, resources), make([]resource, resources)
	for k := range all {
		pool <- &all[k]
	}
	var users sync.WaitGroup
	start := time.Now()
	for k := uint64(0); k < threads; k++ {
		users.Add(1)
		go func() {
			for i := uint64(0); i < each; i++ {
				r := <-pool
				r.uses++
				pool <- r
			}
			users.Done()
		}()
	}
	users.Wait()
	took := time.Since(start)
	var total uint64
	for k := range all {
		total += all[k].uses
	}
	if total != each*threads {
		fmt.Fprintln(os.Stderr, "WRONG RESULT: the sum of uses")
		os.Exit(3)
	}
	fmt.Printf("ns/pair %.3f\n", float64(took.Nanoseconds())/float64(total))
}
