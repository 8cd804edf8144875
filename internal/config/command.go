package config

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

const (
	// maxCommandOutput bounds what a command may print; it prints one secret.
	maxCommandOutput = 4096
	// commandWaitDelay is how long programs that a finished command left behind may keep its output open.
	commandWaitDelay = time.Second
)

// secretVariables are not passed on to other programs: none needs them, and what they start could leak them.
var secretVariables = []string{"KEYCTL_MASTER_KEY", otpVar, "KEYCTL_TOKEN"}

// SecretVariables names the environment variables that hold a secret under every configuration.
func SecretVariables() []string { return slices.Clone(secretVariables) }

// SecretVariables names the environment variables that hold a secret: those of every configuration, and the one that the
// master key is read from.
func (c Config) SecretVariables() []string { return c.env.secrets() }

// ChildEnviron returns the environment for a program that keyctl starts or becomes: its own without secrets.
func (c Config) ChildEnviron() []string { return c.env.commandEnvironment() }

// errTooMuchOutput ends a sentence that begins with the command.
var errTooMuchOutput = fmt.Errorf("printed more than %d bytes", maxCommandOutput)

// output runs a command with the system's shell and returns what it printed. It has no standard input, so that it
// cannot take what was meant for keyctl; to ask something it can open the terminal. Its standard error goes to the
// user. Errors end a sentence that begins with the command; those of ctx are found by errors.Is.
func (e environment) output(ctx context.Context, command string) (string, error) {
	var printed limitedBuffer
	cmd := shell(ctx, command)
	cmd.Env = e.commandEnvironment()
	cmd.Stdout = &printed
	cmd.Stderr = e.stderr
	cmd.WaitDelay = commandWaitDelay
	err := cmd.Run()

	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil && err != nil:
		return "", ctx.Err()
	case printed.full:
		return "", errTooMuchOutput
	case err == nil:
		return string(printed.data), nil
	case errors.As(err, &exit):
		return "", fmt.Errorf("failed: %s", exit.ProcessState) // "exit status 3", "signal: killed"
	case errors.Is(err, exec.ErrWaitDelay):
		return "", errors.New("left a program behind that keeps its output open")
	}
	return "", fmt.Errorf("could not be run: %w", err)
}

func (e environment) secrets() []string {
	names := SecretVariables()
	if e.secretVar != "" {
		names = append(names, e.secretVar)
	}
	return names
}

// commandEnvironment is the environment without keyctl's secrets.
func (e environment) commandEnvironment() []string {
	secrets := e.secrets()
	return slices.DeleteFunc(slices.Clone(e.environ()), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.ContainsFunc(secrets, func(secret string) bool { return strings.EqualFold(name, secret) }) // Windows folds case
	})
}

// programOf returns the first word of a command, which names it in messages. When that could be more than the name of a
// program, such as an assignment or the beginning of a quotation, it is left out.
func programOf(command string) string {
	fields := strings.Fields(command)
	if len(fields) == 0 || strings.ContainsAny(fields[0], "=\"'`$\\;|&<>(){}") || len(fields[0]) > 128 {
		return "…"
	}
	return fields[0]
}

// limitedBuffer keeps up to maxCommandOutput bytes and then refuses more, which ends the command by its broken pipe.
type limitedBuffer struct {
	data []byte
	full bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if len(b.data)+len(p) > maxCommandOutput {
		b.full = true
		return 0, errTooMuchOutput
	}
	b.data = append(b.data, p...)
	return len(p), nil
}
