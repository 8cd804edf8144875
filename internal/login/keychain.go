//go:build darwin || windows

package login

import (
	"context"
	"errors"
	"os/exec"
)

// reach does nothing: the system's own keyring is always there.
func reach() error { return nil }

// look asks for what is not there: nothing has to be decrypted for the answer, so nobody is asked for a password.
func look(ctx context.Context) error { return readNothing(ctx) }

// reason tells why the system's keyring did not do what it should. On macOS go-keyring runs the program security, of
// whose failure only the exit status remains.
func reason(err error) (message, hint string) {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "the keychain cannot be used: " + exit.Error(), "unlock it with `security unlock-keychain`, or in Keychain Access"
	}
	return "the keyring failed: " + err.Error(), "look into the keyring's own program"
}
