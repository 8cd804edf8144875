package config

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"

	"keyctl/internal/fault"
	"keyctl/internal/safefile"
)

// otpVar is the variable that may hold a one-time code.
const otpVar = "KEYCTL_OTP"

// maxCodeBytes bounds what is read as a one-time code or recovery code.
const maxCodeBytes = 1024

// OTPFlags are the values of --otp, --otp-file and --otp-command; empty is not given.
type OTPFlags struct {
	Code    string
	File    string // a path, or "-" for standard input
	Command string
}

// ReadOTP returns the one-time code that was given along, without blanks and line ends, and whether there was one. It
// looks at the flags, of which at most one may be given, then at KEYCTL_OTP, then runs the configured otp-command. The
// code's form is not checked.
//
// Two flags are fault.Invalid; a file, input or command without a code, and a command that fails, are
// fault.OTPRequired. A file that others may read is fault.Forbidden, and a command that runs beyond ctx is
// fault.Unavailable.
func (c Config) ReadOTP(ctx context.Context, flags OTPFlags, stdin io.Reader) (code string, given bool, err error) {
	if err := flags.check(); err != nil {
		return "", false, err
	}
	switch fromEnvironment := c.env.getenv(otpVar); {
	case flags.Code != "":
		code = flags.Code
	case flags.File == "-":
		code, err = readFirstLine(ctx, stdin)
	case flags.File != "":
		code, err = c.readOTPFile(flags.File)
	case flags.Command != "":
		code, err = c.runOTPCommand(ctx, flags.Command)
	case fromEnvironment != "":
		code = fromEnvironment
	case c.otpCommand != "":
		code, err = c.runOTPCommand(ctx, c.otpCommand)
	default:
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	if code = withoutBlanks(code); code == "" {
		return "", false, fault.New(fault.OTPRequired, "the place that was named for the one-time code holds none")
	}
	return code, true, nil
}

// check makes sure that it is clear which flag is meant.
func (f OTPFlags) check() error {
	var given []string
	for _, flag := range []struct{ name, value string }{
		{"--otp", f.Code}, {"--otp-file", f.File}, {"--otp-command", f.Command},
	} {
		if flag.value != "" {
			given = append(given, flag.name)
		}
	}
	if len(given) > 1 {
		return fault.New(fault.Invalid, "%s were given, and each alone says where the one-time code is from",
			strings.Join(given, " and ")).WithHint("leave all but one out")
	}
	return nil
}

// withoutBlanks removes the ASCII blanks with which apps and people group digits (docs/states.md).
func withoutBlanks(code string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n", r) {
			return -1
		}
		return r
	}, code)
}

func (c Config) readOTPFile(path string) (string, error) {
	data, err := safefile.ReadPrivate(path, maxCodeBytes, c.env.warn)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.New(fault.OTPRequired, "no file %q with a one-time code", path).WithCause(err)
	}
	return string(data), err
}

func (c Config) runOTPCommand(ctx context.Context, command string) (string, error) {
	code, err := c.env.output(ctx, command)
	return code, commandFault(err, fault.OTPRequired, "the one-time code command", command)
}

// readFirstLine reads up to the end of a line or of the input, or until ctx ends. In that last case the reading
// goroutine stays behind: standard input cannot be interrupted, and the process is about to end.
func readFirstLine(ctx context.Context, stdin io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(stdin, maxCodeBytes)).ReadString('\n')
		done <- result{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-done:
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return "", fault.New(fault.OTPRequired, "the one-time code could not be read from standard input").WithCause(r.err)
		}
		return r.line, nil
	}
}
