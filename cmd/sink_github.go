package cmd

import (
	"fmt"
	"io"
	"os"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/process"
	"keyctl/internal/safefile"
)

// githubSink hands a credential to the next steps of a GitHub Actions job: their environment comes from the file that
// GITHUB_ENV names ("Workflow commands for GitHub Actions", sections "Setting an environment variable" and "Masking a
// value in a log"). Before that it asks the runner, on standard output, to mask the secrets in the job's log.
type githubSink struct {
	commands io.Writer // standard output, where the runner looks for workflow commands
	path     string

	file   *os.File
	before int64 // size of the file without the credential
	size   int64 // and with it; 0 while nothing was written
}

// planGitHub is planDelivery for --format github.
func (a *app) planGitHub(f deliveryFlags) (*delivery, error) {
	switch path := a.sys.Getenv("GITHUB_ENV"); {
	case f != deliveryFlags{format: formatGitHub}:
		return nil, fault.New(fault.Invalid, "--format github is a place of its own").
			WithHint("leave out --out, --copy, --keyring, --profile, --replace and --print")
	case path == "":
		return nil, fault.New(fault.Invalid, "--format github is for a step of a GitHub Actions job, and GITHUB_ENV is not set here").
			WithHint("choose --format env or dotenv")
	default:
		return &delivery{sinks: []sink{&githubSink{commands: a.sys.Stdout, path: path}}}, nil
	}
}

func (s *githubSink) place() string { return "the job's environment" }
func (s *githubSink) where() string { return "in the environment of the job's next steps" }

// prepare opens the runner's file, and makes sure that there is somebody to ask for the masks.
func (s *githubSink) prepare() (err error) {
	if f, ok := s.commands.(*os.File); ok && process.IsNullDevice(f) {
		return fault.New(fault.Undelivered, "standard output is closed or the null device: the runner would not learn what to mask").
			WithHint("leave standard output to the job; nothing was made")
	}
	if s.file, err = safefile.OpenAppend(s.path); err != nil {
		return err
	}
	s.before, err = s.file.Seek(0, io.SeekEnd)
	return err
}

// fill asks for the masks first: nothing may be in the environment that could appear in the log.
func (s *githubSink) fill(i issued) error {
	for _, secret := range []credential.Secret{i.cred.SigningKey, i.cred.CryptoAccessKey} {
		if _, err := fmt.Fprintf(s.commands, "::add-mask::%s\n", secret.Reveal()); err != nil {
			return err
		}
	}
	text, err := i.render(credential.Dotenv, "")
	if err != nil {
		return err
	}
	// The line before may lack its end.
	text = append([]byte("\n"), text...)
	s.size = s.before + int64(len(text))
	if _, err := s.file.Write(text); err != nil {
		return safefile.Explain(s.path, err)
	}
	return safefile.Explain(s.path, s.file.Sync())
}

func (s *githubSink) finish() error { return s.file.Close() }

// abort takes the lines back, unless somebody else added some after them.
func (s *githubSink) abort() {
	if s.file == nil {
		return
	}
	if end, err := s.file.Seek(0, io.SeekEnd); err == nil && end > s.before && end <= s.size {
		_ = s.file.Truncate(s.before)
	}
	_ = s.file.Close()
}
