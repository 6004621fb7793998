// Go: golang.org/x/time/rate.
// usage: peer_limiter_go try threads tries-each | run per-second seconds
package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

func number(i int) int {
	v, err := strconv.Atoi(os.Args[i])
	if err != nil || v < 1 {
		panic("not a count: " + os.Args[i])
	}
	return v
}

func try(threads, each int) {
	limiter := rate.NewLimiter(1e9, 1<<30)
	counts := make([]int, threads)
	var all sync.WaitGroup
	start := time.Now()
	for k := 0; k < threads; k++ {
		all.Add(1)
		go func(k int) {
			count := 0
			for i := 0; i < each; i++ {
				if limiter.Allow() {
					count++
				}
			}
			counts[k] = count
			all.Done()
		}(k)
	}
	all.Wait()
	took := time.Since(start)
	sum := 0
	for _, count := range counts {
		sum += count
	}
	if sum != threads*each {
		fmt.Fprintln(os.Stderr, "WRONG RESULT: limiter")
		os.Exit(3)
	}
	fmt.Printf("ns/try %.3f\n", float64(took.Nanoseconds())/float64(sum))
}

func run(perSecond, seconds int) {
	limiter := rate.NewLimiter(rate.Limit(perSecond), 1)
	_ = limiter.Wait(context.Background())
	n := perSecond * seconds
	start := time.Now()
	for i := 0; i < n; i++ {
		_ = limiter.Wait(context.Background())
	}
	took := time.Since(start).Seconds()
	fmt.Printf("ppm %.3f\n", math.Abs(float64(n)/(took*float64(perSecond))-1)*1e6)
}

func main() {
	if os.Args[1] == "try" {
		try(number(2), number(3))
	} else {
		run(number(2), number(3))
	}
}
