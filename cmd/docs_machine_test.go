package cmd_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"keyctl/internal/credential"
)

func isWorkflow(file string) bool { return strings.HasPrefix(file, ".github/workflows/") }
func isUnit(file string) bool     { return strings.HasSuffix(file, ".service") }

// write makes a file that a page shows, and runs it if it is one for a machine.
func (r *reader) write(s step) {
	r.t.Helper()
	path := filepath.Join(r.home, s.file)
	content := strings.Join(s.output, "\n") + "\n"
	if !isUnit(s.file) {
		content = r.here(content)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	switch {
	case isWorkflow(s.file):
		r.runWorkflow(s.file, content)
	case isUnit(s.file) && strings.HasPrefix(s.file, "/"):
		r.installUnit(s.file, content)
	case isUnit(s.file):
		r.runUnit(s.file, content)
	}
}

// realPrograms are those that the pages use and that tests bring up for real. A page that uses one that is missing is
// skipped as a whole: what it shows afterwards may depend on it.
var realPrograms = []string{"bash", "curl", "dbus-run-session", "dbus-send", "jq", "nginx", "openssl", "pass", "python3"}

// equip gets ready what the page's commands take for granted.
func (r *reader) equip(steps []step) {
	r.t.Helper()
	uses := func(words string) bool {
		pattern := regexp.MustCompile(words)
		return slices.ContainsFunc(steps, func(s step) bool {
			return pattern.MatchString(s.command) || s.program && slices.ContainsFunc(s.output, pattern.MatchString)
		})
	}
	workflows := slices.ContainsFunc(steps, func(s step) bool { return isWorkflow(s.file) })
	if onTerminal == nil && slices.ContainsFunc(steps, func(s step) bool { return s.terminal }) {
		leaveOut(r.t, "the page uses a terminal")
	}
	for _, program := range realPrograms {
		if !uses(`(^|[ ;|&(])`+program+`( |$)`) && !(program == "bash" && workflows) {
			continue
		}
		if _, err := lookUp(program); err != nil {
			leaveOut(r.t, "the page uses "+program+": "+err.Error())
		}
		if program == "pass" {
			r.initPass()
		}
	}
	atDesk(r, uses)
}

// initPass makes a key for gpg without a passphrase, and a password store that is encrypted to it.
func (r *reader) initPass() {
	r.t.Helper()
	// The paths of sockets are short.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		r.t.Fatal(err)
	}
	r.env = append(r.env, "GNUPGHOME="+home)
	r.t.Cleanup(func() {
		end := exec.Command("gpgconf", "--homedir", home, "--kill", "gpg-agent")
		if out, err := end.CombinedOutput(); err != nil {
			r.t.Errorf("the agent of gpg goes on running: %v\n%s", err, out)
		}
		_ = os.RemoveAll(home)
	})
	for _, command := range [][]string{
		{"gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "ann@example.com", "future-default", "default", "never"},
		{"pass", "init", "ann@example.com"},
	} {
		c := exec.CommandContext(r.t.Context(), command[0], command[1:]...)
		c.Env, c.Dir = r.environ(), r.home
		if out, err := c.CombinedOutput(); err != nil {
			r.t.Fatalf("%v: %v\n%s", command, err, out)
		}
	}
}

// workflow is what counts of a workflow of GitHub Actions.
type workflow struct {
	Env  map[string]string
	Jobs map[string]struct {
		Env   map[string]string
		Steps []workflowStep
	}
}

type workflowStep struct {
	Name, Uses, If, Run string
	Env                 map[string]string
}

// runWorkflow runs the jobs of a workflow as the runner does ("Workflow syntax for GitHub Actions", "Workflow commands for
// GitHub Actions"): each script by a bash that ends at the first failure, with its own environment and with what the steps
// before it wrote to GITHUB_ENV, in the checkout and with the configuration of another user. What a step asked to mask must
// not be in the log.
func (r *reader) runWorkflow(file, content string) {
	r.t.Helper()
	var w workflow
	if err := yaml.Unmarshal([]byte(content), &w); err != nil {
		r.t.Fatalf("%s: %v", file, err)
	}
	scripts := 0
	for name, job := range w.Jobs {
		var exported []string
		masked := r.secrets()
		for i, step := range job.Steps {
			if step.Run == "" {
				if !strings.HasPrefix(step.Uses, "actions/checkout@") {
					r.t.Errorf("%s: nothing runs step %d of %q", file, i+1, name)
				}
				continue
			}
			scripts++
			env := append(r.environ(), "CI=true", "GITHUB_ACTIONS=true", "GITHUB_ENV="+filepath.Join(r.home, fmt.Sprintf("set_env_%d", i)),
				"XDG_CONFIG_HOME="+filepath.Join(r.home, "runner"), "XDG_DATA_HOME="+filepath.Join(r.home, ".local", "share"))
			for _, level := range []map[string]string{w.Env, job.Env, step.Env} {
				for name, value := range level {
					env = append(env, name+"="+r.expression(value))
				}
			}
			log := r.runScript(step, append(env, exported...))
			exported = append(exported, r.exported(filepath.Join(r.home, fmt.Sprintf("set_env_%d", i)))...)
			masked = checkLog(r.t, file, log, masked)
		}
	}
	if scripts == 0 {
		r.t.Errorf("%s: nothing in it is run", file)
	}
}

// runScript runs one step and returns its log. Steps that clean up run like the others: "if: always()".
func (r *reader) runScript(step workflowStep, env []string) string {
	r.t.Helper()
	if step.If != "" && step.If != "always()" {
		r.t.Errorf("step %q: what does %q mean?", step.Name, step.If)
	}
	env = append(env, "GITHUB_STEP_SUMMARY="+os.DevNull)
	for _, name := range env {
		if path, ok := strings.CutPrefix(name, "GITHUB_ENV="); ok {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	c := exec.CommandContext(r.t.Context(), "bash", "--noprofile", "--norc", "-e", "-c", r.expression(step.Run))
	c.Dir, c.Env = r.home, env
	out, err := c.CombinedOutput()
	if err != nil {
		r.t.Errorf("step %q: %v\n%s", step.Name, err, out)
	}
	return string(out)
}

var expressions = regexp.MustCompile(`\$\{\{ *([a-z_.]+)(?:\.([A-Z_]+))? *\}\}`)

// expression puts the values of expressions in their place. Secrets and variables are those that the page stored with gh before.
func (r *reader) expression(text string) string {
	r.t.Helper()
	return expressions.ReplaceAllStringFunc(text, func(e string) string {
		switch m := expressions.FindStringSubmatch(e); m[1] {
		case "github.run_id":
			return "1658821493"
		case "github.run_attempt":
			return "1"
		case "secrets", "vars":
			folder := map[string]string{"secrets": "gh", "vars": "gh-variables"}[m[1]]
			value, err := os.ReadFile(filepath.Join(r.home, ".standin", folder, m[2]))
			if err != nil {
				r.t.Fatalf("%s was not stored: %v", e, err)
			}
			return strings.TrimRight(string(value), "\n")
		}
		r.t.Fatalf("what is %s?", e)
		return ""
	})
}

// secrets are all that the page stored with gh, which the runner masks by itself.
func (r *reader) secrets() (values []string) {
	r.t.Helper()
	paths, err := filepath.Glob(filepath.Join(r.home, ".standin", "gh", "*"))
	if err != nil || len(paths) == 0 {
		r.t.Fatalf("no secret was stored with gh: %v", err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			r.t.Fatal(err)
		}
		values = append(values, strings.TrimSpace(string(content)))
	}
	return values
}

// exported reads what a step left for the next ones.
func (r *reader) exported(path string) (env []string) {
	r.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		switch line = strings.TrimSuffix(line, "\n"); {
		case line == "":
		case regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=.`).MatchString(line):
			env = append(env, line)
		default:
			r.t.Errorf("the runner cannot read %q in GITHUB_ENV", line)
		}
	}
	return env
}

// checkLog adds the values that a step asked to mask, and makes sure that the log shows none of them.
func checkLog(t *testing.T, file, log string, masked []string) []string {
	t.Helper()
	var shown bytes.Buffer
	for lines := bufio.NewScanner(strings.NewReader(log)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "::add-mask::"); ok {
			masked = append(masked, value)
		} else {
			fmt.Fprintln(&shown, lines.Text())
		}
	}
	for _, value := range masked {
		if strings.Contains(shown.String(), value) {
			t.Errorf("%s: a secret is in the log:\n%s", file, &shown)
		}
	}
	return masked
}

// unitLine is a setting of a unit file.
var unitLine = regexp.MustCompile(`(?m)^([A-Za-z]+)=(.*)$`)

// runUnit runs what a unit of systemd starts, with its credential decrypted into a folder, and sees that the server finds
// a credential in its environment that is let in. Where systemd is installed it looks at the unit as well.
func (r *reader) runUnit(file, content string) {
	r.t.Helper()
	settings := map[string]string{}
	for _, m := range unitLine.FindAllStringSubmatch(content, -1) {
		settings[m[1]] = m[2]
	}
	name, encrypted, ok := strings.Cut(settings["LoadCredentialEncrypted"], ":")
	if !ok {
		r.t.Fatalf("%s loads no credential", file)
	}
	folder := filepath.Join(r.home, "credentials-of-"+file)
	if err := os.Mkdir(folder, 0o700); err != nil {
		r.t.Fatal(err)
	}
	run := func(env []string, name string, args ...string) []byte {
		c := exec.CommandContext(r.t.Context(), name, args...)
		c.Dir, c.Env = r.home, env
		out, err := c.CombinedOutput()
		if err != nil {
			r.t.Fatalf("%s: %s %q: %v\n%s", file, name, args, err, out)
		}
		return out
	}
	// The page makes the file in its folder, and says where it goes.
	run(r.environ(), "sh", "-c", `umask 077; systemd-creds decrypt --name="$1" "$2" "$3"`, "sh", name, filepath.Base(encrypted), filepath.Join(folder, name))

	start, server, ok := strings.Cut(strings.ReplaceAll(settings["ExecStart"], "%d", folder), " -- ")
	program, args, _ := strings.Cut(start, " ")
	if !ok || program != "/usr/bin/apikeyctl" || !strings.HasPrefix(server, "/") {
		r.t.Fatalf("%s starts %q", file, settings["ExecStart"])
	}
	out := run([]string{"PATH=" + os.Getenv("PATH"), "HOME=/"}, "sh", "-c", "keyctl "+args+` -- env`)
	cred, err := credential.Parse(bytes.NewReader(out), "")
	if err != nil {
		r.t.Fatalf("%s: the server gets no credential: %v", file, err)
	}
	var dotenv strings.Builder
	if err := cred.Write(&dotenv, credential.Dotenv, credential.WriteOptions{}); err != nil {
		r.t.Fatal(err)
	}
	verify := exec.CommandContext(r.t.Context(), "keyctl", "verify", "--from", "-")
	verify.Env, verify.Stdin = r.environ(), strings.NewReader(dotenv.String())
	if out, err := verify.CombinedOutput(); err != nil {
		r.t.Errorf("%s: the server's credential is not let in: %v\n%s", file, err, out)
	}
	r.lookAtUnit(file, content, program, server)
}

// lookAtUnit lets systemd check a unit. It wants the programs to be there, so these become others.
func (r *reader) lookAtUnit(file, content, program, server string) {
	r.t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		r.t.Logf("%s was not looked at: %v", file, err)
		return
	}
	path := filepath.Join(r.t.TempDir(), file)
	content = strings.NewReplacer(program, "/bin/sh", server, "/bin/sh").Replace(content)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	c := exec.CommandContext(r.t.Context(), "systemd-analyze", "verify", "--man=no", path)
	if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
		r.t.Errorf("systemd-analyze verify %s: %v\n%s", file, err, out)
	}
}
