package httpapi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/server"
)

// The addresses of the test, all on loopback: from where a client comes, and from where two proxies ask on.
const (
	clientAddress = "127.0.0.50"
	innerProxy    = "127.0.0.81"
	outerProxy    = "127.0.0.82"
)

// nginx runs nginx with blocks of a server each, in which PORTn stands for the port of the n-th, and DIR for a folder, and
// returns both. It ends with the test, or with the process that runs it.
func nginx(t *testing.T, blocks ...string) (ports []string, dir string) {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/nginx") // which is not in the path of everybody
	}
	if err != nil {
		const missing = "nginx is not installed, so the address behind a proxy is not tested"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	for attempt := 1; ; attempt++ {
		dir := t.TempDir()
		ports, err := startNginx(t, program, dir, blocks)
		if err == nil {
			return ports, dir
		}
		if attempt == 3 { // somebody may have taken a port meanwhile
			t.Fatal(err)
		}
	}
}

func startNginx(t *testing.T, program, dir string, blocks []string) ([]string, error) {
	t.Helper()
	ports := freePorts(t, len(blocks))
	all := strings.Join(blocks, "\n")
	for i := range ports { // the longer numbers first
		n := len(ports) - 1 - i
		all = strings.ReplaceAll(all, fmt.Sprintf("PORT%d", n), ports[n])
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 64; }
http {
access_log off;
client_body_temp_path %[1]s/body;
proxy_temp_path %[1]s/proxy;
fastcgi_temp_path %[1]s/fastcgi;
uwsgi_temp_path %[1]s/uwsgi;
scgi_temp_path %[1]s/scgi;
proxy_http_version 1.1;
%[2]s
}
`, dir, strings.ReplaceAll(all, "DIR", dir))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "-p", dir, "-c", conf, "-e", filepath.Join(dir, "error.log"))
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+ports[0])
		if err == nil {
			return ports, conn.Close()
		}
		select {
		case err := <-ended:
			ended <- err
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			return nil, fmt.Errorf("nginx: %v: %s%s", err, said.String(), log)
		default:
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("nginx does not come up: %s", said.String())
		}
	}
}

// freePorts are ports that nobody listened at a moment ago.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		ports = append(ports, port)
	}
	return ports
}

// askFrom sends a request from an address, with header lines as they are given.
func askFrom(t *testing.T, from, url, token, body string, lines []string) (int, string) {
	t.Helper()
	dialer := &net.Dialer{Timeout: patience}
	network := "tcp"
	if path, ok := strings.CutPrefix(from, "unix:"); ok {
		network, from = "unix", path
	} else {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		if network == "unix" {
			address = from
		}
		return dialer.DialContext(ctx, network, address)
	}}
	request, err := http.NewRequestWithContext(t.Context(), "POST", url+"/v1/operators", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		request.Header.Add(name, strings.TrimSpace(value))
	}
	response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// TestR21_BehindNginx sends requests through real proxies, with headers that pretend another address. What the audit log
// records of the request, and the token of its last use, is the address that the outermost trusted proxy saw.
func TestR21_BehindNginx(t *testing.T) {
	clock := keystest.NewClock()
	path, master := newStore(t, clock.Env())
	trusting := func(header string, proxies ...string) *served {
		return serve(t, path, master, clock.Env(), func(o *server.Options) {
			o.ForwardedHeader, o.BehindProxy = header, true
			for _, p := range proxies {
				o.TrustedProxies = append(o.TrustedProxies, netip.MustParsePrefix(p))
			}
		})
	}
	both := trusting(iprange.XForwardedFor, innerProxy+"/32", outerProxy+"/32", "::1/128")
	one := trusting(iprange.XForwardedFor, innerProxy+"/32")
	none := trusting(iprange.XForwardedFor)
	rfc := trusting(iprange.Forwarded, innerProxy+"/32", outerProxy+"/32")
	token := both.token(t, "").Reveal()

	// A proxy: where it listens, from which address it asks whom, and which header it sets to what.
	proxy := func(i int, bind, to, header string) string {
		return fmt.Sprintf(`server { listen 127.0.0.1:PORT%d; location / { proxy_bind %s; proxy_pass http://%s; %s } }`, i, bind, to, header)
	}
	const (
		appends   = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
		replaces  = "proxy_set_header X-Forwarded-For $remote_addr;"
		withPort  = "proxy_set_header X-Forwarded-For $remote_addr:$remote_port;"
		removes   = `proxy_set_header X-Forwarded-For "";`
		forwarded = `if ($http_forwarded) { set $before "$http_forwarded, "; } proxy_set_header Forwarded "${before}for=$remote_addr;proto=https";`
		quoted    = `proxy_set_header Forwarded "for=\"$remote_addr:$remote_port\";by=_keyctl";`
		blank     = `set $before "";`
	)
	blocks := []string{
		proxy(0, innerProxy, both.address, appends),
		proxy(1, innerProxy, both.address, replaces),
		proxy(2, innerProxy, both.address, withPort),
		proxy(3, innerProxy, both.address, removes),
		proxy(4, innerProxy, none.address, appends),
		proxy(5, outerProxy, one.address, appends), // not a trusted one
		proxy(6, outerProxy, "127.0.0.1:PORT0", appends),
		proxy(7, outerProxy, "127.0.0.1:PORT8", appends),
		proxy(8, innerProxy, one.address, appends),
		proxy(9, innerProxy, rfc.address, blank+forwarded),
		proxy(10, innerProxy, rfc.address, quoted),
		proxy(11, outerProxy, "127.0.0.1:PORT9", blank+forwarded),
		proxy(12, innerProxy, rfc.address, appends), // sets the header that is not read
		fmt.Sprintf(`server { listen 127.0.0.1:PORT13; listen unix:DIR/socket; location / { proxy_bind %s; proxy_pass http://%s; %s } }`, innerProxy, both.address, appends),
	}
	sixth := hasIPv6()
	if sixth {
		blocks = append(blocks, fmt.Sprintf(`server { listen 127.0.0.1:PORT14; listen [::1]:PORT14; location / { proxy_bind %s; proxy_pass http://%s; %s } }`,
			innerProxy, one.address, appends))
	} else {
		t.Log("this machine has no IPv6, so a client over it is left out")
	}
	ports, dir := nginx(t, blocks...)
	at := func(i int) string { return "http://127.0.0.1:" + ports[i] }

	const xff, fwd = "X-Forwarded-For: ", "Forwarded: "
	cases := []struct {
		name, from, url string
		lines           []string
		want            string // empty: refused
	}{
		{"no proxy", clientAddress, both.url, nil, clientAddress},
		{"no proxy, a made up header", clientAddress, both.url, []string{xff + "10.9.9.9"}, clientAddress},
		{"no proxy, garbage", clientAddress, both.url, []string{xff + "garbage"}, clientAddress},
		{"no proxy, the other header", clientAddress, both.url, []string{fwd + "for=10.9.9.9", "X-Real-Ip: 10.9.9.9"}, clientAddress},
		{"no proxy trusted, and a made up header", clientAddress, none.url, []string{xff + "10.9.9.9"}, clientAddress},

		{"appends", clientAddress, at(0), nil, clientAddress},
		{"appends to a made up one", clientAddress, at(0), []string{xff + "10.9.9.9"}, clientAddress},
		{"appends to a list", clientAddress, at(0), []string{xff + "10.9.9.9, 192.0.2.1, 10.0.0.1"}, clientAddress},
		{"appends to two lines", clientAddress, at(0), []string{xff + "10.9.9.9", xff + "192.0.2.1"}, clientAddress},
		{"appends to its own address", clientAddress, at(0), []string{xff + innerProxy}, clientAddress},
		{"appends to IPv6", clientAddress, at(0), []string{xff + "2001:db8::1, [2001:db8::2]:443"}, clientAddress},
		{"appends to garbage", clientAddress, at(0), []string{xff + "garbage, <script>, 999.1.1.1, unix:"}, clientAddress},
		{"appends to empty hops", clientAddress, at(0), []string{xff + ", ,"}, clientAddress},
		{"appends to 40 hops", clientAddress, at(0), []string{xff + strings.Repeat("10.9.9.9, ", 39) + "10.9.9.9"}, ""},
		{"appends, the other header is made up", clientAddress, at(0), []string{fwd + "for=10.9.9.9", "X-Real-Ip: 10.9.9.9"}, clientAddress},
		{"a client at a trusted address", outerProxy, at(0), []string{xff + "10.9.9.9"}, "10.9.9.9"}, // it is a proxy by its address
		{"replaces", clientAddress, at(1), []string{xff + "10.9.9.9"}, clientAddress},
		{"replaces two lines", clientAddress, at(1), []string{xff + "10.9.9.9", xff + "192.0.2.1"}, clientAddress},
		{"with a port", clientAddress, at(2), []string{xff + "10.9.9.9"}, clientAddress},
		{"removes", clientAddress, at(3), []string{xff + "10.9.9.9"}, innerProxy}, // nobody says who it is
		{"is not trusted", clientAddress, at(4), []string{xff + "10.9.9.9"}, innerProxy},
		{"is another one than the trusted", clientAddress, at(5), []string{xff + "10.9.9.9"}, outerProxy},
		{"over a socket", "unix:", at(13), nil, ""}, // it writes unix:, which is no address
		{"over a socket, with a made up header", "unix:", at(13), []string{xff + "10.9.9.9"}, ""},

		{"two of them", clientAddress, at(6), nil, clientAddress},
		{"two of them, a made up header", clientAddress, at(6), []string{xff + "10.9.9.9, " + innerProxy}, clientAddress},
		{"two of them, two lines", clientAddress, at(6), []string{xff + "10.9.9.9", xff + outerProxy}, clientAddress},
		{"two of them, one trusted", clientAddress, at(7), []string{xff + "10.9.9.9"}, outerProxy},

		{"Forwarded", clientAddress, at(9), nil, clientAddress},
		{"Forwarded, made up", clientAddress, at(9), []string{fwd + "for=10.9.9.9"}, clientAddress},
		{"Forwarded, garbage", clientAddress, at(9), []string{fwd + `for=unknown, for=_hidden, for="[::1`}, ""}, // open quotes take in what follows
		{"Forwarded, hidden ones", clientAddress, at(9), []string{fwd + `for=unknown, for=_hidden;by=x, for="[2001:db8::1]:1"`}, clientAddress},
		{"Forwarded, an open quote", clientAddress, at(9), []string{fwd + `for=10.9.9.9;by="`}, ""},
		{"Forwarded, X-Forwarded-For made up", clientAddress, at(9), []string{xff + "10.9.9.9"}, clientAddress},
		{"Forwarded with a port", clientAddress, at(10), []string{fwd + "for=10.9.9.9"}, clientAddress},
		{"Forwarded by two", clientAddress, at(11), []string{fwd + "for=10.9.9.9"}, clientAddress},
		{"Forwarded not set", clientAddress, at(12), []string{xff + "10.9.9.9"}, innerProxy},
	}
	if sixth {
		over6 := "http://[::1]:" + ports[14]
		cases = append(cases, []struct {
			name, from, url string
			lines           []string
			want            string
		}{
			{"over IPv6", "::1", over6, nil, "::1"},
			{"over IPv6, a made up header", "::1", over6, []string{xff + "2001:db8::9"}, "::1"},
		}...)
	}
	for i, c := range cases {
		clock.Advance(time.Minute) // the use of a token is written down once a minute
		if c.from == "unix:" {
			c.from += filepath.Join(dir, "socket")
		}
		name := fmt.Sprintf("case-%d", i)
		status, answer := askFrom(t, c.from, c.url, token, `{"name":"`+name+`","role":"auditor"}`, c.lines)
		records := keystest.Events(t, both.owner, keys.AuditFilter{Action: "operators.create", Object: name})
		if c.want == "" {
			if status != 400 || len(records) != 0 || strings.Contains(answer, "10.9.9.9") {
				t.Errorf("%s: %d %s, %d records; want it refused", c.name, status, answer, len(records))
			}
			continue
		}
		if status != 200 || len(records) != 1 {
			t.Errorf("%s: %d %s, %d records", c.name, status, answer, len(records))
			continue
		}
		if got := records[0].Event.Address; got != c.want {
			t.Errorf("%s: the audit log has the address %q, want %q", c.name, got, c.want)
		}
		tokens, err := both.owner.Tokens(t.Context(), false)
		if err != nil || len(tokens) != 1 || tokens[0].LastUsedFrom == nil || *tokens[0].LastUsedFrom != c.want {
			t.Errorf("%s: the token was last used from %+v, %v, want %q", c.name, tokens, err, c.want)
		}
	}
	t.Logf("%d cases", len(cases))
}

// hasIPv6 reports whether the loopback interface has its IPv6 address.
func hasIPv6() bool {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
