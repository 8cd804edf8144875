//go:build unix

package keyringtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	serviceName = "org.freedesktop.secrets"
	servicePath = dbus.ObjectPath("/org/freedesktop/secrets")
	loginPath   = dbus.ObjectPath("/org/freedesktop/secrets/collection/login")
)

// patience bounds the start; it takes a tenth of a second.
const patience = 30 * time.Second

// Session is a D-Bus session with or without a keyring on it.
type Session struct {
	dir   string
	hold  io.Closer // while it is open the daemons run, and no longer than this process
	done  chan error
	words bytes.Buffer // of the daemons, to read once done
}

// daemons starts a bus and, if told to, a keyring with an unlocked collection, until its standard input ends.
const daemons = `
dbus-daemon --config-file="$1/bus.conf" --nofork --nopidfile & pids=$!
for i in $(seq 1000); do [ -S "$1/bus" ] && break; sleep 0.02; done
if [ "$2" = keyring ]; then
	printf 'for tests' | gnome-keyring-daemon --unlock --foreground --components=secrets & pids="$pids $!"
fi
read -r end
kill $pids
wait
`

// busConfig is a bus that starts nothing by itself but what StartOnDemand says: what is installed on the machine stays out
// of the tests.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <servicedir>%s</servicedir>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
`

// Missing returns why no session can be started here, or nil.
func Missing() error {
	if runtime.GOOS != "linux" {
		return errors.New("the Secret Service is Linux's")
	}
	for _, program := range []string{"sh", "dbus-daemon", "gnome-keyring-daemon", "secret-tool"} {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	return nil
}

// New starts a session with an unlocked keyring for the time of a test. Where that is not possible the test is skipped; in
// continuous integration it fails.
func New(tb testing.TB) *Session {
	tb.Helper()
	return start(tb, true)
}

// NewWithout starts a session without a keyring.
func NewWithout(tb testing.TB) *Session {
	tb.Helper()
	return start(tb, false)
}

func start(tb testing.TB, keyring bool) *Session {
	tb.Helper()
	if err := Missing(); err != nil {
		if os.Getenv("CI") == "true" && runtime.GOOS == "linux" {
			tb.Fatal(err)
		}
		tb.Skip(err)
	}
	s, err := Start(keyring)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// Start is New, or NewWithout, outside of a test; Stop ends the session.
func Start(keyring bool) (*Session, error) {
	dir, err := os.MkdirTemp("", "keyring-") // short, as the path of a socket has to be
	if err != nil {
		return nil, err
	}
	s := &Session{dir: dir, done: make(chan error, 1)}
	if err := s.launch(keyring); err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	ready := s.answers
	if keyring {
		ready = s.unlocked
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := ready()
		if err == nil {
			return s, nil
		}
		if time.Now().After(deadline) {
			s.Stop()
			return nil, fmt.Errorf("the keyring did not start: %w\n%s", err, &s.words)
		}
	}
}

// launch starts the daemons.
func (s *Session) launch(keyring bool) error {
	for _, name := range []string{"run", "data", "cache", "config", "services"} {
		if err := os.Mkdir(filepath.Join(s.dir, name), 0o700); err != nil {
			return err
		}
	}
	config := fmt.Sprintf(busConfig, filepath.Join(s.dir, "bus"), filepath.Join(s.dir, "services"))
	if err := os.WriteFile(filepath.Join(s.dir, "bus.conf"), []byte(config), 0o600); err != nil {
		return err
	}
	mode := "bus"
	if keyring {
		mode = "keyring"
	}
	c := exec.Command("sh", "-c", daemons, "sh", s.dir, mode)
	c.Env = []string{s.Env(), "PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}
	for name, dir := range map[string]string{"RUNTIME_DIR": "run", "DATA_HOME": "data", "CACHE_HOME": "cache", "CONFIG_HOME": "config"} {
		c.Env = append(c.Env, "XDG_"+name+"="+filepath.Join(s.dir, dir))
	}
	c.Stdout, c.Stderr = &s.words, &s.words
	var err error
	if s.hold, err = c.StdinPipe(); err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	go func() { s.done <- c.Wait() }()
	return nil
}

// Stop ends the session and removes what it left.
func (s *Session) Stop() {
	_ = s.hold.Close()
	<-s.done
	_ = os.RemoveAll(s.dir)
}

// Address is where the bus listens.
func (s *Session) Address() string { return "unix:path=" + filepath.Join(s.dir, "bus") }

// Env is what a program needs in its environment to use the session.
func (s *Session) Env() string { return "DBUS_SESSION_BUS_ADDRESS=" + s.Address() }

// Use makes the process of a test find a session, given by what its Env returns, or Nowhere. go-keyring shares one
// connection in a process, which is closed after the test.
func Use(tb testing.TB, env string) {
	tb.Helper()
	name, value, _ := strings.Cut(env, "=")
	tb.Setenv(name, value)
	tb.Cleanup(func() {
		if conn, err := dbus.SessionBus(); err == nil {
			conn.Close()
		}
	})
}

// StartOnDemand makes a session without a keyring run a program when somebody asks for one.
func (s *Session) StartOnDemand(program string) error {
	service := fmt.Sprintf("[D-BUS Service]\nName=%s\nExec=%s\n", serviceName, program)
	if err := os.WriteFile(filepath.Join(s.dir, "services", serviceName+".service"), []byte(service), 0o600); err != nil {
		return err
	}
	conn, err := dbus.Connect(s.Address())
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.BusObject().Call("org.freedesktop.DBus.ReloadConfig", 0).Err
}

// answers reports why the bus does not answer.
func (s *Session) answers() error {
	conn, err := dbus.Connect(s.Address())
	if err != nil {
		return err
	}
	return conn.Close()
}

// unlocked reports why there is no unlocked keyring.
func (s *Session) unlocked() error {
	conn, err := dbus.Connect(s.Address())
	if err != nil {
		return err
	}
	defer conn.Close()
	collections, err := conn.Object(serviceName, servicePath).GetProperty("org.freedesktop.Secret.Service.Collections")
	if err != nil {
		return err
	}
	if paths, ok := collections.Value().([]dbus.ObjectPath); !ok || !slices.Contains(paths, loginPath) {
		return errors.New("it has no login collection")
	}
	locked, err := conn.Object(serviceName, loginPath).GetProperty("org.freedesktop.Secret.Collection.Locked")
	if err == nil && locked.Value() != false {
		err = errors.New("its login collection is locked")
	}
	return err
}

// Lock locks the keyring. As there is nobody to show a dialog, it stays so.
func (s *Session) Lock() error {
	conn, err := dbus.Connect(s.Address())
	if err != nil {
		return err
	}
	defer conn.Close()
	err = conn.Object(serviceName, servicePath).Call("org.freedesktop.Secret.Service.Lock", 0, []dbus.ObjectPath{loginPath}).Err
	if err == nil && s.unlocked() == nil {
		err = errors.New("the keyring is not locked")
	}
	return err
}
