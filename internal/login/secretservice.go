//go:build !darwin && !windows

package login

import (
	"errors"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"
)

// errNoBus says that there is no D-Bus session.
var errNoBus = errors.New("no D-Bus session")

// reach makes sure that there is a D-Bus session to look for the keyring on. Without this look go-keyring would run
// dbus-launch where that is installed: a new session with a locked keyring of its own, which stays behind for good.
func reach() error {
	conn, err := dbus.SessionBusPrivateNoAutoStartup()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoBus, err)
	}
	return conn.Close()
}

// hintHeadless starts a keyring where no desktop does.
const hintHeadless = "a desktop session has one; without a desktop, run the command inside of " +
	"`dbus-run-session -- sh`, after `gnome-keyring-daemon --unlock --components=secrets` there"

// reason tells why the Secret Service did not do what it should. Of go-keyring's errors, those of D-Bus have names, and
// the one about a locked collection only its text.
func reason(err error) (message, hint string) {
	var named dbus.Error
	switch {
	case errors.Is(err, errNoBus):
		return "there is no keyring: no D-Bus session was found", hintHeadless
	case errors.As(err, &named) && isNobody(named.Name):
		return "there is no keyring: nothing on the D-Bus session offers the Secret Service", hintHeadless
	case errors.As(err, &named) && named.Name == "org.freedesktop.Secret.Error.IsLocked",
		strings.HasPrefix(err.Error(), "failed to unlock correct collection"):
		return "the keyring is locked, or there is none in use yet",
			"unlock it: log in to the desktop, or pass its password to `gnome-keyring-daemon --unlock`"
	}
	return "the keyring failed: " + err.Error(), "look into the keyring's own program"
}

// isNobody reports whether the bus says that a service is neither there nor could be started.
func isNobody(name string) bool {
	switch name {
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner":
		return true
	}
	return strings.HasPrefix(name, "org.freedesktop.DBus.Error.Spawn.")
}
