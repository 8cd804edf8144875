package cmd_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patient bounds the wait for a server to come up and to go away.
const patient = time.Minute

func isSite(file string) bool { return strings.HasPrefix(file, "/etc/nginx/conf.d/") }

// givenPorts are those that freePort returned.
var givenPorts sync.Map

// freePort is a port of this machine that nobody listens on and no other page has, below those that the system gives out by
// itself: it stays free until a page's server takes it.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(20000 + rand.IntN(12000))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		l.Close()
		if _, taken := givenPorts.LoadOrStore(port, true); !taken {
			return port
		}
	}
	t.Fatal("there is no free port")
	return ""
}

// tick moves the clock of all that runs.
func (r *reader) tick(by time.Duration) {
	r.t.Helper()
	r.now = r.now.Add(by)
	next := r.clock + ".next"
	if err := os.WriteFile(next, []byte(r.now.Format(time.RFC3339Nano)), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(next, r.clock); err != nil {
		r.t.Fatal(err)
	}
}

// The names of the server, of a service beside it and of its database in the pages, which are this machine's for the test.
const (
	host     = "keys.example.com"
	service  = "api.example.com"
	database = "db.example.com:5432"
)

// The places of a page that are others here. Folders of the system are in the reader's home, and nothing listens beyond this
// machine.
var (
	siteURL      = regexp.MustCompile(`https://(` + regexp.QuoteMeta(host) + `|` + regexp.QuoteMeta(service) + `)(:\d+)?`)
	pagePort     = regexp.MustCompile(`\b(443|8420|8421)\b`)
	annsName     = regexp.MustCompile(`\bann\b`)
	databaseHost = regexp.MustCompile(`\bdb[12]?\.example\.com(:5432)?`)
	everyAddress = regexp.MustCompile(`(listen:? ):(\d)`)
	systemFolder = regexp.MustCompile(`(^|[\s=:"'(@<>])(/(?:etc|var/lib|usr/local/sbin)\b)`)
)

// here puts this machine's places into a text of the page.
func (r *reader) here(text string) string {
	text = siteURL.ReplaceAllStringFunc(text, func(url string) string {
		if strings.Count(url, ":") == 1 {
			url += ":443"
		}
		return url
	})
	text = strings.NewReplacer(host, "localhost", service, "localhost").Replace(text)
	text = databaseHost.ReplaceAllString(text, "localhost:"+r.ports["5432"])
	text = pagePort.ReplaceAllStringFunc(text, func(port string) string { return r.ports[port] })
	text = everyAddress.ReplaceAllString(text, "${1}127.0.0.1:${2}")
	text = systemFolder.ReplaceAllString(text, "${1}"+r.home+"${2}")
	text = strings.NewReplacer("/home/ann", r.home, "/usr/bin/apikeyctl", "keyctl").Replace(text)
	return annsName.ReplaceAllString(text, r.user)
}

// there puts the page's places into what was printed here.
func (r *reader) there(text string) string {
	for _, folder := range []string{"/etc", "/var/lib"} {
		text = strings.ReplaceAll(text, r.home+folder, folder)
	}
	text = strings.ReplaceAll(text, r.home, "/home/ann")
	for _, mark := range []string{":", "-"} {
		text = strings.ReplaceAll(text, "localhost"+mark+r.ports["443"], host)
	}
	if port := r.ports["5432"]; port != "" {
		text = strings.ReplaceAll(text, "localhost:"+port, database)
	}
	for page, port := range r.ports {
		text = regexp.MustCompile(`\b`+port+`\b`).ReplaceAllString(text, page)
	}
	return strings.ReplaceAll(text, "localhost", host)
}

// job is a program that goes on running beside the reader's commands.
type job struct {
	name    string // of the service; empty for a command
	command *exec.Cmd
	log     string
}

// keepsRunning takes the commands that start and end programs which go on running.
func (r *reader) keepsRunning(s step, command string) bool {
	r.t.Helper()
	if background, ok := strings.CutSuffix(command, " &"); ok {
		// exec, for the signal to reach the program and not the shell; env, for the variables before it.
		shell := exec.Command("sh", "-c", "exec env "+background)
		shell.Env = r.environ()
		r.start(&job{command: shell}, "127.0.0.1:"+r.portIn(background))
		return true
	}
	var number int
	if n, _ := fmt.Sscanf(command, "kill %%%d", &number); n == 1 {
		r.stop(func(j *job) bool {
			if j.name == "" {
				number--
			}
			return j.name == "" && number == 0
		})
		return true
	}
	words := strings.Fields(command)
	if words[0] != "systemctl" {
		return false
	}
	name := words[len(words)-1]
	named := func(j *job) bool { return j.name == name }
	switch verb := strings.Join(words[1:len(words)-1], " "); {
	case command == "systemctl daemon-reload":
	case name == "nginx" && verb == "reload":
		r.stop(named)
		r.startNginx()
	case verb == "stop":
		r.stop(named)
	case verb == "enable --now" || verb == "start" || verb == "restart":
		r.stop(named)
		r.startUnit(name)
	default:
		r.t.Fatalf("line %d: %s: what is that?", s.line, command)
	}
	return true
}

// portIn is where a server listens that a command starts.
func (r *reader) portIn(command string) string {
	for _, port := range r.ports {
		if strings.Contains(command, ":"+port) {
			return port
		}
	}
	return r.ports["8420"]
}

// start starts a job and waits until it serves.
func (r *reader) start(j *job, address string) {
	r.t.Helper()
	log, err := os.CreateTemp(r.t.TempDir(), "log")
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	j.log = log.Name()
	j.command.Dir, j.command.Stdout, j.command.Stderr = r.home, log, log
	if err := j.command.Start(); err != nil {
		r.t.Fatal(err)
	}
	if i := slices.Index(r.jobs, nil); i >= 0 {
		r.jobs[i] = j
	} else {
		r.jobs = append(r.jobs, j)
	}
	client := http.Client{Timeout: patient}
	for deadline := time.Now().Add(patient); ; time.Sleep(10 * time.Millisecond) {
		// Who wants TLS says so, and thereby that it serves.
		answer, err := client.Get("http://" + address + "/healthz")
		if err == nil {
			answer.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(j.log)
			r.t.Fatalf("%v does not answer at %s: %v\n%s", j.command.Args, address, err, text)
		}
	}
}

// stop ends the jobs that are meant, as a service manager does, and sees that they end well.
func (r *reader) stop(meant func(*job) bool) {
	r.t.Helper()
	for i, j := range r.jobs {
		if j == nil || !meant(j) {
			continue
		}
		_ = j.command.Process.Signal(syscall.SIGTERM)
		ended := make(chan error, 1)
		go func() { ended <- j.command.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				text, _ := os.ReadFile(j.log)
				r.t.Errorf("%v ended with %v\n%s", j.command.Args, err, text)
			}
		case <-time.After(patient):
			_ = j.command.Process.Kill()
			r.t.Errorf("%v did not end", j.command.Args)
		}
		r.jobs[i] = nil
	}
}

func (r *reader) stopAll() { r.stop(func(*job) bool { return true }) }

// serviceSettings are the settings of a unit that keyctl's own service may have, and the test acts upon; the rest is for
// systemd alone, and it is systemd that looks at it.
type serviceSettings struct {
	start       string
	environment []string
	credentials map[string]string // name → file
}

// installUnit keeps the unit of a server for systemctl. Where systemd is installed it looks at the unit, also at how far the
// service is shut in.
func (r *reader) installUnit(file, content string) {
	r.t.Helper()
	name := strings.TrimSuffix(filepath.Base(file), ".service")
	r.units[name] = content
	s := r.settingsOf(name)
	program, _, _ := strings.Cut(s.start, " ")
	if program != "/usr/bin/apikeyctl" {
		r.t.Fatalf("%s starts %q", file, s.start)
	}
	r.lookAtUnit(filepath.Base(file), content, program, program)
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		return
	}
	path := filepath.Join(r.t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, program, "/bin/sh")), 0o600); err != nil {
		r.t.Fatal(err)
	}
	// 2.0 of 10, where 10 is a service that may do everything.
	c := exec.CommandContext(r.t.Context(), "systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", path)
	if out, err := c.CombinedOutput(); err != nil {
		r.t.Errorf("systemd-analyze security %s: %v\n%s", file, err, out)
	}
}

// settingsOf reads a unit.
func (r *reader) settingsOf(name string) serviceSettings {
	r.t.Helper()
	content, ok := r.units[name]
	if !ok {
		r.t.Fatalf("the page has no unit of %s", name)
	}
	s := serviceSettings{credentials: map[string]string{}}
	for _, m := range unitLine.FindAllStringSubmatch(content, -1) {
		switch m[1] {
		case "ExecStart":
			s.start = m[2]
		case "Environment":
			s.environment = append(s.environment, strings.Fields(m[2])...)
		case "LoadCredential":
			credential, from, _ := strings.Cut(m[2], ":")
			s.credentials[credential] = from
		}
	}
	return s
}

// startUnit starts the service of a unit with what the unit gives it, and nothing else.
func (r *reader) startUnit(name string) {
	r.t.Helper()
	s := r.settingsOf(name)
	folder, err := os.MkdirTemp(r.t.TempDir(), "credentials")
	if err != nil {
		r.t.Fatal(err)
	}
	for credential, from := range s.credentials {
		content, err := os.ReadFile(filepath.Join(r.home, from))
		if err != nil {
			r.t.Fatalf("the unit loads what is not there: %v", err)
		}
		if err := os.WriteFile(filepath.Join(folder, credential), content, 0o400); err != nil {
			r.t.Fatal(err)
		}
	}
	command := exec.Command("sh", "-c", "exec "+r.here(s.start))
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/", clockFileVar + "=" + r.clock}
	for _, variable := range s.environment {
		command.Env = append(command.Env, r.here(strings.ReplaceAll(variable, "%d", folder)))
	}
	r.start(&job{name: name, command: command}, "127.0.0.1:"+r.ports["8420"])
}

// lookUp finds a program, also where not everybody's PATH leads.
func lookUp(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	if elsewhere, sbinErr := exec.LookPath("/usr/sbin/" + program); sbinErr == nil {
		return elsewhere, nil
	}
	return "", err
}

// startNginx runs nginx with the sites that the page has, as Debian's package does: conf.d is inside of http.
func (r *reader) startNginx() {
	r.t.Helper()
	dir := r.t.TempDir()
	main := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	include %[2]s/etc/nginx/conf.d/*.conf;
}
`, dir, r.home)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(main), 0o600); err != nil {
		r.t.Fatal(err)
	}
	program, err := lookUp("nginx")
	if err != nil {
		r.t.Fatal(err)
	}
	r.start(&job{name: "nginx", command: exec.Command(program, "-p", dir, "-c", path)}, "127.0.0.1:"+r.ports["443"])
}
