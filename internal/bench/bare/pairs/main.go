// Command pairs is the bare program that `keyctl keys create -f` is compared with: it generates so many RSA key pairs of
// 2048 bits, on every core, and does nothing else.
package main

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
)

func main() {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "pairs:", err)
		os.Exit(2)
	}
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	var cores sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		cores.Go(func() {
			for range work {
				if _, err := rsa.GenerateKey(rand.Reader, 2048); err != nil {
					fmt.Fprintln(os.Stderr, "pairs:", err)
					os.Exit(1)
				}
			}
		})
	}
	cores.Wait()
}
