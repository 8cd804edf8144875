//go:build unix

// Package postgrestest brings up PostgreSQL servers for tests: real ones, on sockets of their own, in folders that go with
// the test, or with the process that runs it, whatever ends that. Durability is switched on, as keyctl demands.
//
// Where PostgreSQL is missing, the test is skipped with the reason; with CI=true it fails.
package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience bounds each step; a server is up within a second.
const patience = 60 * time.Second

// Options say how a server runs. The zero value is right for most tests.
type Options struct {
	Folder   string   // where its own folder is made; empty: in memory where there is such a place
	TCP      bool     // listen on a loopback port, too
	Settings []string // name=value
}

// Server is a PostgreSQL server. Its superuser is called test and has no password.
type Server struct {
	dir      string // holds its data, its socket and its log
	port     int    // also part of the socket's name
	tcp      bool
	settings []string
	hold     io.Closer // while it is open the server runs, and no longer than this process
	ended    chan error

	forgotten bool // nobody calls Stop: the folder goes when the server ends

	mu   sync.Mutex
	made int // databases
}

// programs returns the folder of PostgreSQL's programs: Debian keeps the newest of several beside each other.
func programs() (string, error) {
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); err == nil && len(found) > 0 {
		slices.SortFunc(found, func(a, b string) int { return major(a) - major(b) })
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("PostgreSQL's initdb is not installed")
	}
	return filepath.Dir(path), nil
}

func major(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

// account is whom the server runs as: PostgreSQL refuses root.
func account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres")
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
}

// Missing returns why no server can be started here, or nil.
func Missing() error {
	if _, err := programs(); err != nil {
		return err
	}
	_, err := account()
	return err
}

// Own gives a folder, and what is in it, to the account that servers run as: for files that their settings name.
func Own(folder string) error {
	as, err := account()
	if err != nil || as == nil {
		return err
	}
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(as.Uid), int(as.Gid))
	})
}

// need skips a test where there is no PostgreSQL.
func need(tb testing.TB) {
	tb.Helper()
	err := Missing()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true" && runtime.GOOS == "linux":
		tb.Fatal(err)
	default:
		tb.Skip(err)
	}
}

// Database makes an empty database on a server that all tests of this process share, and returns its URL. It goes with the
// test.
func Database(tb testing.TB) string {
	tb.Helper()
	need(tb)
	server, err := shared()
	if err != nil {
		tb.Fatal(err)
	}
	return server.Database(tb)
}

var shared = sync.OnceValues(func() (*Server, error) { return start(Options{}, true) })

// New starts a server for the time of a test.
func New(tb testing.TB, o Options) *Server {
	tb.Helper()
	need(tb)
	s, err := Start(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// Start is New outside of a test; Stop ends the server.
func Start(o Options) (*Server, error) { return start(o, false) }

func start(o Options, forgotten bool) (*Server, error) {
	s, err := prepare(o)
	if err != nil {
		return nil, err
	}
	err = s.run("initdb", "-D", s.data(), "-U", "test", "-A", "trust", "--no-sync", "--no-instructions", "-k", "-E", "UTF8", "--locale=C.UTF-8")
	if err == nil {
		s.forgotten = forgotten
		err = s.Up()
	}
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// prepare makes the folder.
func prepare(o Options) (*Server, error) {
	if o.Folder == "" {
		if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
			o.Folder = "/dev/shm"
		}
	}
	dir, err := os.MkdirTemp(o.Folder, "pg-") // short, as the path of a socket has to be
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, port: 5432, tcp: o.TCP, settings: o.Settings}
	if o.TCP {
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
	}
	return s, Own(dir)
}

// freePort finds a port below those that systems give to whoever asks for any one: a server that was down for a while gets its own
// back, although others connected meanwhile.
func freePort() (port int, err error) {
	for range 100 {
		port = 20_000 + rand.IntN(10_000)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// run runs one of PostgreSQL's programs to its end.
func (s *Server) run(program string, args ...string) error {
	dir, err := programs()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(dir, program), args...)
	command.Dir = s.dir
	command.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if command.SysProcAttr, err = asAccount(); err != nil {
		return err
	}
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return nil
}

func asAccount() (*syscall.SysProcAttr, error) {
	as, err := account()
	return &syscall.SysProcAttr{Credential: as}, err
}

// keeper runs the server until the pipe ends, which it does with the process that started it, and then removes a folder.
const keeper = `
"$1" -D "$2" 3<&- & server=$!
(read -r end; kill -QUIT $server 2>/dev/null) <&3 &
exec 3<&-
wait $server
[ -z "$3" ] || { cd /; rm -rf "$3"; }
`

// Up starts a server that is down, and waits until it answers.
func (s *Server) Up() error {
	dir, err := programs()
	if err != nil {
		return err
	}
	if err := s.configure(); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(s.data(), "postmaster.pid")) // of one that was killed
	end, hold, err := os.Pipe()
	if err != nil {
		return err
	}
	defer end.Close()
	words, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer words.Close()
	remove := ""
	if s.forgotten {
		remove = s.dir
	}
	command := exec.Command("sh", "-c", keeper, "keeper", filepath.Join(dir, "postgres"), s.data(), remove)
	command.Dir, command.Stdout, command.Stderr, command.ExtraFiles = s.dir, words, words, []*os.File{end}
	command.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if command.SysProcAttr, err = asAccount(); err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	s.hold, s.ended = hold, make(chan error, 1)
	go func() { s.ended <- command.Wait() }()
	return s.await()
}

// configure writes the settings down, which a standby takes over from its primary otherwise.
func (s *Server) configure() error {
	listen := ""
	if s.tcp {
		listen = "127.0.0.1"
	}
	lines := append([]string{
		"listen_addresses='" + listen + "'", "port=" + strconv.Itoa(s.port), "unix_socket_directories='" + s.dir + "'",
		"shared_buffers=16MB", "max_connections=100", "logging_collector=off",
	}, s.settings...)
	return os.WriteFile(filepath.Join(s.data(), "postgresql.conf"), []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

// await waits until the server answers.
func (s *Server) await() error {
	deadline := time.Now().Add(patience)
	for {
		err := s.SQL("SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case end := <-s.ended:
			s.ended <- end
			return fmt.Errorf("the server ended: %v\n%s", end, s.Log())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server does not answer: %w\n%s", err, s.Log())
		}
	}
}

// Log is what the server said.
func (s *Server) Log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(text)
}

// SQL runs statements as the superuser, each by itself.
func (s *Server) SQL(statements ...string) error {
	return s.connected(func(ctx context.Context, conn *pgx.Conn) error {
		for _, statement := range statements {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		return nil
	})
}

// until waits until a condition holds. Each look is a statement of its own, for only between two a server takes notice of its
// settings.
func (s *Server) until(condition string) error {
	return s.connected(func(ctx context.Context, conn *pgx.Conn) error {
		for holds := false; !holds; time.Sleep(time.Millisecond) {
			if err := conn.QueryRow(ctx, "SELECT "+condition).Scan(&holds); err != nil {
				return fmt.Errorf("waiting for %s: %w", condition, err)
			}
		}
		return nil
	})
}

// connected does something as the superuser, with patience.
func (s *Server) connected(do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return do(ctx, conn)
}

// url names a database by the server's socket.
func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres://test@/%s?host=%s&port=%d", database, s.dir, s.port)
}

// Address is HOST:PORT of a server that listens on TCP.
func (s *Server) Address() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// Socket is the folder of the server's socket.
func (s *Server) Socket() string { return s.dir }

// Database makes an empty database and returns its URL. It goes with the test.
func (s *Server) Database(tb testing.TB) string {
	tb.Helper()
	name := s.NewDatabase(tb)
	return s.url(name)
}

// NewDatabase is Database, and returns the name alone.
func (s *Server) NewDatabase(tb testing.TB) string {
	tb.Helper()
	s.mu.Lock()
	s.made++
	name := "test_" + strconv.Itoa(s.made)
	s.mu.Unlock()
	if err := s.SQL("CREATE DATABASE " + name); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if s.running() {
			if err := s.SQL("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"); err != nil {
				tb.Log(err)
			}
		}
	})
	return name
}

func (s *Server) running() bool { return s.hold != nil }

// Kill ends the server as the loss of its machine does: where the system tells what belongs to it, nothing of it writes or
// sends any more; elsewhere its other processes notice the end of the first one in a moment.
func (s *Server) Kill() error {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	pid, err := strconv.Atoi(string(line))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil { // or it would go on to make processes
		return err
	}
	others, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	for _, other := range strings.Fields(string(others)) {
		if pid, err := strconv.Atoi(other); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return s.wait()
}

// wait waits for the end of the server and lets go of it.
func (s *Server) wait() error {
	select {
	case <-s.ended:
	case <-time.After(patience):
		return errors.New("the server does not end")
	}
	_ = s.hold.Close()
	s.hold = nil
	return nil
}

// Down ends the server at once, as after a crash, but without leaving its processes to find out by themselves.
func (s *Server) Down() error {
	if s.hold == nil {
		return nil
	}
	_ = s.hold.Close()
	return s.wait()
}

// Stop ends the server and removes its folder.
func (s *Server) Stop() {
	_ = s.Down()
	_ = os.RemoveAll(s.dir)
}
