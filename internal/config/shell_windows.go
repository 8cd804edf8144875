package config

import (
	"context"
	"os/exec"
	"syscall"
)

// shell prepares a command for the Windows command interpreter, which takes the rest of its line as it is; the usual
// quoting of arguments would change it.
func shell(ctx context.Context, command string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "cmd.exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{CmdLine: "cmd.exe /D /S /C \"" + command + "\""}
	return cmd
}
