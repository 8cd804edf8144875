package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serveForMemory is what the process of TestR17_MemoryStaysBounded does: it serves with the usual limits, for longer than
// the test takes to fill them.
const serveForMemory = "KEYCTL_TEST_SERVE_CERT"

func TestMain(m *testing.M) {
	cert := os.Getenv(serveForMemory)
	if cert == "" {
		os.Exit(m.Run())
	}
	o := options(saying("ok"), &journal{})
	o.CertFile, o.KeyFile = cert, strings.TrimSuffix(cert, ".pem")+".key"
	s, err := New(o)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s.limits.readHeader = time.Hour
	fmt.Println(s.Address())
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test
		cancel()
	}()
	_ = s.Serve(ctx)
}

// TestR17_MemoryStaysBounded opens more connections to a process than it may have, each with TLS and with almost all the
// headers there may be, which never end: none of them times out meanwhile. Its memory stays below 200 MiB.
func TestR17_MemoryStaysBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("it shakes hands seventeen hundred times")
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < 2500 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("a process may have %d files, and CI has to let the test have 2,500: %v", files.Cur, err)
		}
		t.Skipf("a process has %d files here, fewer than the connections of the test", files.Cur)
	}
	f := newFiles(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), serveForMemory+"="+f.cert)
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address = strings.TrimSpace(address)
	before := residentMiB(t, child.Process.Pid)
	headers := "GET / HTTP/1.1\r\nHost: h\r\nX-A: " + strings.Repeat("a", 15<<10)
	slow := 0
	for range usual.connections + 200 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(patience))
		over := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if over.Handshake() != nil {
			continue // the limit is reached, and this one was the quiet one
		}
		if _, err := io.WriteString(over, headers); err == nil {
			slow++
		}
	}
	after := residentMiB(t, child.Process.Pid)
	t.Logf("%d connections took %d MiB to %d MiB: %d KiB each", slow, before, after, (after-before)<<10/max(slow, 1))
	if slow < usual.connections*9/10 {
		t.Errorf("only %d connections were made", slow)
	}
	if after >= 200 {
		t.Errorf("the process takes %d MiB, want less than 200", after)
	}
}

// residentMiB is the most memory that a process has had.
func residentMiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}
