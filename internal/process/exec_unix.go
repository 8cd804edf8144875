//go:build unix

package process

import "syscall"

// Exec makes this process another program: path is its file, argv what it is called with, itself first. It comes back with
// an error only. The program gets the streams, and the signals with the effects they have by default or were ignored with
// from the start; its end is its own. Call restore of Harden before.
func Exec(path string, argv, env []string) (status int, err error) {
	return 0, syscall.Exec(path, argv, env)
}
