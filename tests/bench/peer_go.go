// Go: goroutines and a WaitGroup.
// usage: peer_go map n [worst] | skew u|d|p n | progress threads each
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func number(i int) int {
	v, err := strconv.Atoi(os.Args[i])
	if err != nil || v < 1 {
		panic("not a count: " + os.Args[i])
	}
	return v
}

func setting(name string, otherwise int) int {
	if v, err := strconv.Atoi(os.Getenv(name)); err == nil && v > 0 {
		return v
	}
	return otherwise
}

func report(what string, ns float64) { fmt.Printf("%s %.3f\n", what, ns) }

func wrong(what string, where int) {
	fmt.Fprintf(os.Stderr, "WRONG RESULT: %s at %d\n", what, where)
	os.Exit(3)
}

// the loops of bench.h

//go:noinline
func batch(call func(), calls int) time.Duration {
	start := time.Now()
	for i := 0; i < calls; i++ {
		call()
	}
	return time.Since(start)
}

func mean(call func()) {
	budget, spent, best := float64(setting("BENCH_MS", 50))*1e6, 0.0, 0.0
	calls := setting("BENCH_CALLS", 0)
	if calls > 0 {
		batch(call, calls/10+1)
	} else {
		for calls = 1; spent < budget; calls *= 2 {
			took := float64(batch(call, calls))
			spent += took
			if each := took / float64(calls); calls == 1 || each < best {
				best = each
			}
		}
		calls = int(budget/best) + 1
	}
	report("ns/call", float64(batch(call, calls))/float64(calls))
}

func longest(call func()) {
	least := time.Duration(setting("BENCH_MS", 50)) * time.Millisecond
	for i := 0; i < 10; i++ {
		call()
	}
	var worst time.Duration
	start := time.Now()
	for before := start; before.Sub(start) < least; {
		call()
		after := time.Now()
		if d := after.Sub(before); d > worst {
			worst = d
		}
		before = after
	}
	report("worst-ns/call", float64(worst.Nanoseconds()))
}

func work(x uint64, steps uint32) uint64 {
	for ; steps > 0; steps-- {
		x = x*2862933555777941757 + 3037000493
	}
	return x
}

func scramble(x uint64) uint64 {
	x = (x + 0x632be59bd9b4e019) * 0xd1342543de82ef95
	x ^= x >> 32
	x *= 0xaf251af3b0f025b5
	return x ^ x>>29
}

func cost(shape byte, i, n int) uint32 {
	switch shape {
	case 'u':
		return uint32(2500 * i / n)
	case 'd':
		return uint32(2500 * (n - i) / n)
	}
	c := (uint64(50) << 24) / (scramble(uint64(i))>>40 + 1)
	if c > 500000 {
		c = 500000
	}
	return uint32(c)
}

// one contiguous part a processor; the caller runs the first
func inParts(n int, body func(begin, end int)) {
	p := runtime.GOMAXPROCS(0)
	var others sync.WaitGroup
	others.Add(p - 1)
	for k := 1; k < p; k++ {
		go func(k int) {
			body(n*k/p, n*(k+1)/p)
			others.Done()
		}(k)
	}
	body(0, n/p)
	others.Wait()
}

// 16 items a claim from a shared counter
func byClaims(n int, body func(begin, end int)) {
	const grain = 16
	p := runtime.GOMAXPROCS(0)
	var next int64
	take := func() {
		for {
			begin := int(atomic.AddInt64(&next, grain)) - grain
			if begin >= n {
				return
			}
			end := begin + grain
			if end > n {
				end = n
			}
			body(begin, end)
		}
	}
	var others sync.WaitGroup
	others.Add(p - 1)
	for k := 1; k < p; k++ {
		go func() {
			take()
			others.Done()
		}()
	}
	take()
	others.Wait()
}

func runMap() {
	n := number(2)
	in, out := make([]uint32, n), make([]uint32, n)
	for i := range in {
		in[i] = uint32(i) + 1
	}
	body := func(begin, end int) {
		a, b := in[begin:end], out[begin:end]
		for i := range b {
			b[i] = a[i] * a[i]
		}
	}
	call := func() { inParts(n, body) }
	if len(os.Args) > 3 && os.Args[3] == "worst" {
		longest(call)
	} else {
		mean(call)
	}
	for i := range out {
		out[i] = 0
	}
	call()
	for i := range out {
		if out[i] != in[i]*in[i] {
			wrong("map", i)
		}
	}
}

func runSkew() {
	shape, n := os.Args[2][0], number(3)
	out := make([]uint64, n)
	body := func(begin, end int) {
		for i := begin; i < end; i++ {
			out[i] = work(uint64(i), cost(shape, i, n))
		}
	}
	mean(func() { byClaims(n, body) })
	for i := range out {
		out[i] = ^out[i]
	}
	byClaims(n, body)
	for i := range out {
		if out[i] != work(uint64(i), cost(shape, i, n)) {
			wrong("skew", i)
		}
	}
}

func runProgress() {
	threads, each := number(2), number(3)
	var count uint64
	var all sync.WaitGroup
	all.Add(threads)
	start := time.Now()
	for k := 0; k < threads; k++ {
		go func() {
			for i := 0; i < each; i++ {
				atomic.AddUint64(&count, 1)
			}
			all.Done()
		}()
	}
	all.Wait()
	took := time.Since(start)
	if count != uint64(threads*each) {
		wrong("count of updates", int(count))
	}
	report("ns/update", float64(took.Nanoseconds())/float64(threads*each))
}

func main() {
	runtime.GOMAXPROCS(setting("BENCH_THREADS", runtime.NumCPU()))
	entries := map[string]func(){"map": runMap, "skew": runSkew, "progress": runProgress}
	if len(os.Args) < 3 || entries[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: peer_go map n [worst] | skew u|d|p n | progress threads each")
		os.Exit(2)
	}
	entries[os.Args[1]]()
}
