// Go: a buffered channel.
// usage: peer_queue_go producers consumers capacity items
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

func number(i int) uint64 {
	v, err := strconv.ParseUint(os.Args[i], 10, 64)
	if err != nil || v < 1 {
		panic("not a count: " + os.Args[i])
	}
	return v
}

func main() {
	p, c, capacity, items := number(1), number(2), number(3), number(4)
	channel := make(chan uint64, capacity)
	sums, counts := make([]uint64, c), make([]uint64, c)
	var producers, consumers sync.WaitGroup
	start := time.Now()
	for k := uint64(0); k < c; k++ {
		consumers.Add(1)
		go func(k uint64) {
			var sum, count uint64
			for v := range channel {
				sum += v
				count++
			}
			sums[k], counts[k] = sum, count
			consumers.Done()
		}(k)
	}
	for k := uint64(0); k < p; k++ {
		producers.Add(1)
		go func(from, to uint64) {
			for v := from; v < to; v++ {
				channel <- v
			}
			producers.Done()
		}(items*k/p, items*(k+1)/p)
	}
	producers.Wait()
	close(channel)
	consumers.Wait()
	took := time.Since(start)
	var sum, count uint64
	for k := range sums {
		sum += sums[k]
		count += counts[k]
	}
	if count != items || sum != items*(items-1)/2 {
		fmt.Fprintln(os.Stderr, "WRONG RESULT: queue")
		os.Exit(3)
	}
	fmt.Printf("ns/item %.3f\n", float64(took.Nanoseconds())/float64(items))
}
