package process

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// maxDetachedInput is what a pipe takes, on every system, before anybody reads from it.
const maxDetachedInput = 4096

// Detach starts this program once more, as a process that lives on when this one and its terminal end: in a session of
// its own, in the root folder, with standard output and error on the null device. Nobody learns how it ends. environ is
// its whole environment, and input, of up to 4096 bytes, is all that it finds on its standard input.
func Detach(environ []string, input string, args ...string) error {
	if len(input) > maxDetachedInput {
		return fmt.Errorf("%d bytes of input for a detached process, want at most %d", len(input), maxDetachedInput)
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the program: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.WriteString(w, input)
	if closing := w.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	c := exec.Command(program, args...)
	c.Args[0] = os.Args[0] // the name by which lists of processes show it
	c.Env, c.Stdin = environ, r
	c.Dir = filepath.VolumeName(program) + string(filepath.Separator)
	c.SysProcAttr = detached()
	if err := c.Start(); err != nil {
		return err
	}
	return c.Process.Release()
}
