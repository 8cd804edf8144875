// Command keyctl administers API keys: it issues them, limits them to addresses and datasets, rolls them without
// downtime, switches them off, and shows each credential exactly once.
package main

import (
	"crypto/rand"
	"os"
	"time"

	"keyctl/cmd"
	"keyctl/internal/config"
	"keyctl/internal/process"
)

func main() {
	os.Exit(cmd.Main(&cmd.System{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: process.HideEnv(config.SecretVariables()...), Now: time.Now, Rand: rand.Reader,
	}))
}
