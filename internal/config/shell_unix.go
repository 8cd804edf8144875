//go:build unix

package config

import (
	"context"
	"os/exec"
)

// shell prepares a command for the POSIX shell.
func shell(ctx context.Context, command string) *exec.Cmd {
	return exec.CommandContext(ctx, "/bin/sh", "-c", command)
}
