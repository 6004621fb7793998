// Go: goroutines that take functions from a buffered channel.
// usage: peer_pool_go outside n
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"
)

func main() {
	n, err := strconv.Atoi(os.Args[2])
	if err != nil || n < 1 {
		panic("not a count: " + os.Args[2])
	}
	marks := make([]byte, n)
	tasks := make(chan func(), 1024)
	var workers sync.WaitGroup
	for k := 0; k < runtime.NumCPU(); k++ {
		workers.Add(1)
		go func() {
			for task := range tasks {
				task()
			}
			workers.Done()
		}()
	}
	start := time.Now()
	for i := 0; i < n; i++ {
		mark := &marks[i]
		tasks <- func() { *mark = 1 }
	}
	close(tasks)
	workers.Wait()
	took := time.Since(start)
	for _, mark := range marks {
		if mark != 1 {
			fmt.Fprintln(os.Stderr, "WRONG RESULT: tasks")
			os.Exit(3)
		}
	}
	fmt.Printf("ns/task %.3f\n", float64(took.Nanoseconds())/float64(n))
}
