//go:build unix

package keyringtest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/godbus/dbus/v5"
)

// Fake is a Secret Service that does what no real one can be made to do. It has one collection.
type Fake struct {
	Keep       func(value []byte) []byte // what is kept of a secret that is stored; nil: nothing
	Stubborn   bool                      // items are not removed, though it says so
	Unanswered bool                      // unlocking needs a dialog that nobody answers
	Nonsense   bool                      // properties are of the wrong type
	Empty      bool                      // it has no collection after all

	unlocks atomic.Int64

	mu    sync.Mutex
	conn  *dbus.Conn
	items map[dbus.ObjectPath]*item
}

// item is a stored secret.
type item struct {
	attributes map[string]string
	value      []byte
}

// secret is the structure that the specification calls Secret.
type secret struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

const (
	none      = dbus.ObjectPath("/") // no such object
	promptAt  = servicePath + "/prompt/1"
	sessionAt = servicePath + "/session/1"
)

// Serve answers on a session without a keyring until the test ends.
func (f *Fake) Serve(tb testing.TB, s *Session) {
	tb.Helper()
	conn, err := dbus.Connect(s.Address())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	f.conn, f.items = conn, map[dbus.ObjectPath]*item{}
	for _, export := range []struct {
		value any
		path  dbus.ObjectPath
		as    string
	}{
		{fakeService{f}, servicePath, "org.freedesktop.Secret.Service"},
		{fakeProperties{f}, servicePath, "org.freedesktop.DBus.Properties"},
		{fakeProperties{f}, loginPath, "org.freedesktop.DBus.Properties"},
		{fakeCollection{f}, loginPath, "org.freedesktop.Secret.Collection"},
		{fakeSession{}, sessionAt, "org.freedesktop.Secret.Session"},
		{fakePrompt{}, promptAt, "org.freedesktop.Secret.Prompt"},
	} {
		if err := conn.Export(export.value, export.path, export.as); err != nil {
			tb.Fatal(err)
		}
	}
	reply, err := conn.RequestName(serviceName, dbus.NameFlagDoNotQueue)
	if err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		tb.Fatalf("the name %s is not to be had: %v, %v", serviceName, reply, err)
	}
}

// Values returns the secrets that are kept.
func (f *Fake) Values() (values []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.items {
		values = append(values, string(i.value))
	}
	return values
}

// Unlocks tells how often somebody wanted the collection unlocked.
func (f *Fake) Unlocks() int { return int(f.unlocks.Load()) }

type fakeService struct{ *Fake }

func (f fakeService) ReadAlias(string) (dbus.ObjectPath, *dbus.Error) {
	if f.Empty {
		return none, nil
	}
	return loginPath, nil
}

func (f fakeService) OpenSession(string, dbus.Variant) (dbus.Variant, dbus.ObjectPath, *dbus.Error) {
	return dbus.MakeVariant(""), sessionAt, nil
}

func (f fakeService) Unlock(objects []dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	f.unlocks.Add(1)
	if f.Unanswered {
		return []dbus.ObjectPath{}, promptAt, nil
	}
	return objects, none, nil
}

type fakeProperties struct{ *Fake }

func (f fakeProperties) Get(_, name string) (dbus.Variant, *dbus.Error) {
	switch {
	case f.Nonsense:
		return dbus.MakeVariant("nothing of the kind"), nil
	case name == "Locked":
		return dbus.MakeVariant(f.Unanswered), nil
	case f.Empty:
		return dbus.MakeVariant([]dbus.ObjectPath{}), nil
	}
	return dbus.MakeVariant([]dbus.ObjectPath{loginPath}), nil
}

type fakeCollection struct{ *Fake }

func (f fakeCollection) SearchItems(wanted map[string]string) ([]dbus.ObjectPath, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := []dbus.ObjectPath{}
	for path, i := range f.items {
		if i.has(wanted) {
			found = append(found, path)
		}
	}
	return found, nil
}

func (f fakeCollection) CreateItem(properties map[string]dbus.Variant, s secret, _ bool) (dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	attributes, _ := properties["org.freedesktop.Secret.Item.Attributes"].Value().(map[string]string)
	path := dbus.ObjectPath(fmt.Sprintf("%s/%d", loginPath, len(f.items)+1))
	for known, i := range f.items {
		if i.has(attributes) {
			path = known
		}
	}
	value := f.Keep(s.Value)
	if value == nil {
		return path, none, nil
	}
	f.items[path] = &item{attributes, value}
	if err := f.conn.Export(fakeItem{f.Fake, path}, path, "org.freedesktop.Secret.Item"); err != nil {
		return none, none, dbus.MakeFailedError(err)
	}
	return path, none, nil
}

// has reports whether an item has all the attributes that are wanted.
func (i *item) has(wanted map[string]string) bool {
	for name, value := range wanted {
		if i.attributes[name] != value {
			return false
		}
	}
	return true
}

type fakeItem struct {
	*Fake
	path dbus.ObjectPath
}

func (f fakeItem) GetSecret(session dbus.ObjectPath) (secret, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.items[f.path]
	if i == nil {
		return secret{}, &dbus.ErrMsgNoObject
	}
	return secret{Session: session, Parameters: []byte{}, Value: i.value, ContentType: "text/plain"}, nil
}

func (f fakeItem) Delete() (dbus.ObjectPath, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.Stubborn {
		delete(f.items, f.path)
	}
	return none, nil
}

type fakeSession struct{}

func (fakeSession) Close() *dbus.Error { return nil }

type fakePrompt struct{}

// Prompt shows no dialog, so that it never ends.
func (fakePrompt) Prompt(string) *dbus.Error { return nil }
