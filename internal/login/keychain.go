//go:build darwin || windows

package login

import (
	"errors"
	"os/exec"
)

// reach does nothing: the system's own keyring is always there.
func reach() error { return nil }

// reason tells why the system's keyring did not do what it should. On macOS go-keyring runs the program security, of
// whose failure only the exit status remains.
func reason(err error) (message, hint string) {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "the keychain cannot be used: " + exit.Error(), "unlock it with `security unlock-keychain`, or in Keychain Access"
	}
	return "the keyring failed: " + err.Error(), "look into the keyring's own program"
}
