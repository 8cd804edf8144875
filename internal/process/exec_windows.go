package process

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
)

// Exec runs another program in the place of this one: path is its file, argv what it is called with, itself first. Windows
// cannot change the program of a process, so the program is a child with the same streams, and Exec returns its exit status
// for the caller to end with. Ctrl-C reaches both; this process leaves the answer to the program.
func Exec(path string, argv, env []string) (status int, err error) {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	c := exec.Command(path)
	c.Args, c.Env = argv, env
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return c.ProcessState.ExitCode(), nil
}
