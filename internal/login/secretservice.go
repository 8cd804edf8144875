//go:build !darwin && !windows

package login

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// errNoBus says that there is no D-Bus session.
var errNoBus = errors.New("no D-Bus session")

// errAsleep says that nobody has asked the keyring for anything in this session, so that it does not run yet.
var errAsleep = fmt.Errorf("%w: it does not run yet", ErrLocked)

// The Secret Service on the bus, and the collection in it that go-keyring prefers.
const (
	secretsName = "org.freedesktop.secrets"
	secretsPath = dbus.ObjectPath("/org/freedesktop/secrets")
	loginPath   = secretsPath + "/collection/login"
)

// reach makes sure that there is a D-Bus session to look for the keyring on. Without this look go-keyring would run
// dbus-launch where that is installed: a new session with a locked keyring of its own, which stays behind for good.
func reach() error {
	conn, err := dbus.SessionBusPrivateNoAutoStartup()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoBus, err)
	}
	return conn.Close()
}

// look reads what the service tells of the collection that go-keyring uses.
func look(ctx context.Context) error {
	_, err := ask(ctx, func() (struct{}, error) { return struct{}{}, lookAtService(ctx) })
	return err
}

func lookAtService(ctx context.Context) error {
	conn, err := dbus.SessionBusPrivateNoAutoStartup()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoBus, err)
	}
	defer conn.Close()
	if err := conn.Auth(nil); err != nil {
		return err
	}
	if err := conn.Hello(); err != nil {
		return err
	}
	var collections []dbus.ObjectPath
	err = readProperty(ctx, conn, secretsPath, "Service", "Collections", &collections)
	var named dbus.Error
	if errors.As(err, &named) && isNobody(named.Name) && startsOnDemand(ctx, conn) {
		return errAsleep
	}
	if err != nil {
		return err
	}
	collection := loginPath
	if !slices.Contains(collections, loginPath) {
		const none = dbus.ObjectPath("/")
		err := conn.Object(secretsName, secretsPath).
			CallWithContext(ctx, "org.freedesktop.Secret.Service.ReadAlias", dbus.FlagNoAutoStart, "default").Store(&collection)
		if err != nil {
			return err
		}
		if collection == none {
			return ErrLocked // its dialog makes one
		}
	}
	var locked bool
	if err := readProperty(ctx, conn, collection, "Collection", "Locked", &locked); err != nil {
		return err
	}
	if locked {
		return ErrLocked
	}
	return nil
}

// readProperty reads a property of an object of the service, which is not started for it.
func readProperty[T any](ctx context.Context, conn *dbus.Conn, path dbus.ObjectPath, of, name string, value *T) error {
	var property dbus.Variant
	err := conn.Object(secretsName, path).
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, "org.freedesktop.Secret."+of, name).Store(&property)
	if err != nil {
		return err
	}
	got, ok := property.Value().(T)
	if !ok {
		return errGarbled
	}
	*value = got
	return nil
}

// startsOnDemand reports whether the session starts the service when somebody asks it something.
func startsOnDemand(ctx context.Context, conn *dbus.Conn) bool {
	var names []string
	err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.ListActivatableNames", 0).Store(&names)
	return err == nil && slices.Contains(names, secretsName)
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
	case errors.Is(err, errAsleep):
		return "the keyring does not run yet", "the session starts it when it is needed, and it may then have to be unlocked"
	case errors.Is(err, ErrLocked),
		errors.As(err, &named) && named.Name == "org.freedesktop.Secret.Error.IsLocked",
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
