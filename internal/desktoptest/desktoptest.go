//go:build unix

// Package desktoptest brings up desktops for tests: real display servers without a screen, each with a clipboard of its own
// that no other program uses. They end with the test, or with the process that runs it, whatever ends that.
//
// Where a display server or a clipboard tool is missing, the test is skipped with the reason; with CI=true it fails.
package desktoptest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a display server may take to come up or to end on a loaded machine.
const patience = 60 * time.Second

// Desktop is a display server that runs.
type Desktop struct {
	t    testing.TB
	vars []string // lead to it
}

// None is where no display server is.
func None(t testing.TB) *Desktop { return &Desktop{t: t} }

// X11 starts an X server.
func X11(t testing.TB) *Desktop {
	t.Helper()
	s := newServer(t, "Xvfb", "-displayfd", "3", "-screen", "0", "640x480x24", "-nolisten", "tcp")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s.command.ExtraFiles = []*os.File{w}
	s.start()
	w.Close()
	_ = r.SetReadDeadline(time.Now().Add(patience))
	display, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		s.failed(err)
	}
	return &Desktop{t, []string{"DISPLAY=:" + strings.TrimSpace(display)}}
}

// Wayland starts a compositor. It refuses to work as root and then runs as nobody.
func Wayland(t testing.TB) *Desktop {
	t.Helper()
	s := newServer(t, "sway", "-c", os.DevNull)
	s.command.Env = append(os.Environ(), "HOME="+s.dir, "XDG_RUNTIME_DIR="+s.dir, "DISPLAY=", "WAYLAND_DISPLAY=",
		"WLR_BACKENDS=headless", "WLR_RENDERER=pixman", "WLR_LIBINPUT_NO_DEVICES=1")
	if os.Geteuid() == 0 {
		const nobody = 65534
		if err := os.Chown(s.dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		s.command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	s.start()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		sockets, err := filepath.Glob(filepath.Join(s.dir, "wayland-*[0-9]"))
		if len(sockets) > 0 {
			d := &Desktop{t, []string{"XDG_RUNTIME_DIR=" + s.dir, "WAYLAND_DISPLAY=" + filepath.Base(sockets[0])}}
			t.Cleanup(d.clear)
			return d
		}
		if err != nil || time.Now().After(deadline) || s.ended() {
			s.failed(errors.New("no socket appeared"))
		}
	}
}

// clear takes everything from the clipboard of Wayland. wl-copy keeps what it copied in a file in /tmp, and removes that
// only when something takes its place: not when the compositor ends.
func (d *Desktop) clear() {
	run := func(tool, arg string) error {
		c := exec.Command(Tool(d.t, tool), arg)
		c.Env = d.Environ(os.Environ())
		return c.Run()
	}
	if err := run("wl-copy", "--clear"); err != nil {
		d.t.Errorf("clearing the clipboard: %v", err)
	}
	for deadline := time.Now().Add(patience); run("wl-paste", "--no-newline") == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Error("the clipboard cannot be cleared")
			return
		}
	}
}

// Environ returns an environment in which programs find this desktop and no other.
func (d *Desktop) Environ(environ []string) []string {
	kept := slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains([]string{"DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "XAUTHORITY"}, name)
	})
	return append(kept, d.vars...)
}

// The tools that reach a clipboard, and how.
var (
	copying = map[string][]string{
		"xclip": {"-in", "-selection", "clipboard"}, "xsel": {"--input", "--clipboard"}, "wl-copy": nil,
	}
	pasting = map[string][]string{
		"xclip": {"-out", "-selection", "clipboard"}, "xsel": {"--output", "--clipboard"}, "wl-paste": {"--no-newline"},
	}
)

// Copy puts text on the clipboard with xclip, xsel or wl-copy, as a person does with some other program. The tools may
// have ended before the display server has heard of what they did, so it waits until that is seen.
func (d *Desktop) Copy(tool, text string) {
	d.t.Helper()
	c := exec.Command(Tool(d.t, tool), copying[tool]...)
	c.Env, c.Stdin = d.Environ(os.Environ()), strings.NewReader(text)
	if err := c.Run(); err != nil {
		d.t.Fatalf("copying with %s: %v", tool, err)
	}
	if tool == "wl-copy" {
		tool = "wl-paste"
	}
	d.WaitFor(tool, text)
}

// Paste returns what xclip, xsel or wl-paste finds on the clipboard: nothing also where they find none.
func (d *Desktop) Paste(tool string) string {
	d.t.Helper()
	c := exec.Command(Tool(d.t, tool), pasting[tool]...)
	c.Env = d.Environ(os.Environ())
	out, err := c.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.t.Fatalf("pasting with %s: %v", tool, err)
	}
	return string(out)
}

// WaitFor waits until the clipboard holds text.
func (d *Desktop) WaitFor(tool, text string) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		got := d.Paste(tool)
		if got == text {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("the clipboard holds %q, want %q", got, text)
		}
	}
}

// Tool returns the path of a program.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

// Path returns a folder in which there are these programs and no others, to be the whole PATH.
func Path(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.Symlink(Tool(t, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Script makes a program of a shell script in a folder.
func Script(t testing.TB, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// server is a display server, and a shell that ends it and removes its folder once a pipe has no writer any more: when
// the test closes it, or when the test's process is gone.
type server struct {
	t       testing.TB
	name    string
	dir     string
	command *exec.Cmd
	log     bytes.Buffer
	waited  chan struct{} // closed when it has ended
}

const keeper = `dir=$1; shift
exec 4<&0 # what runs in the background has the null device for its standard input
"$@" 4<&- & server=$!
{ read -r _ <&4; kill "$server"; } & reader=$!
wait "$server"
kill "$reader"
rm -rf "$dir"`

func newServer(t testing.TB, name string, args ...string) *server {
	t.Helper()
	path := Tool(t, name)
	dir, err := os.MkdirTemp("", "desktop-") // not the test's: it may be another user's
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, name: name, dir: dir, waited: make(chan struct{})}
	s.command = exec.Command("/bin/sh", append([]string{"-c", keeper, "sh", dir, path}, args...)...)
	s.command.Dir = dir
	return s
}

func (s *server) start() {
	s.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Close()
	s.command.Stdin = r
	s.command.Stdout, s.command.Stderr = &s.log, &s.log
	s.command.WaitDelay = time.Second
	if err := s.command.Start(); err != nil {
		w.Close()
		s.t.Fatal(err)
	}
	go func() {
		_ = s.command.Wait() // how it ends says nothing
		close(s.waited)
	}()
	s.t.Cleanup(func() {
		w.Close()
		select {
		case <-s.waited:
		case <-time.After(patience):
			s.t.Errorf("%s does not end", s.name)
		}
		if err := os.RemoveAll(s.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.t.Error(err)
		}
	})
}

func (s *server) ended() bool {
	select {
	case <-s.waited:
		return true
	default:
		return false
	}
}

// failed ends the test with what the server had to say.
func (s *server) failed(err error) {
	s.t.Helper()
	said := "it runs on"
	if s.ended() {
		said = fmt.Sprintf("it ended and said\n%s", &s.log)
	}
	s.t.Fatalf("%s did not come up: %v; %s", s.name, err, said)
}
