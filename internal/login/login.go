// Package login keeps secrets in the keyring of the operating system: credentials of applications, and master keys of
// stores. It is the Secret Service on Linux, Keychain on macOS, Credential Manager on Windows, by way of go-keyring.
//
// An item is found by two names, which other programs may use as well: its service is its Kind, and its user the name
// that was given to it. A master key can so be brought in by hand, with
//
//	secret-tool store --label='keyctl prod' service keyctl-master-key username prod
//
// Nothing counts as stored before it was read back, no call lasts longer than a person or a script would wait, and there
// is no other place that secrets go to when the keyring fails. The package asks nobody anything: an unlock dialog is the
// keyring's own.
package login

import (
	"context"
	"errors"
	"time"

	"github.com/zalando/go-keyring"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// Kind tells what an item is for. It is the item's service in the keyring, so names of one kind never meet those of
// another, and is never renamed.
type Kind string

// The kinds of items.
const (
	Credential Kind = "keyctl-credential" // an application's credential, under a profile
	MasterKey  Kind = "keyctl-master-key" // what opens a store
	Token      Kind = "keyctl-token"      // what a server lets an operator in with, under a context
)

// noun is what messages call an item of this kind.
func (k Kind) noun() string {
	switch k {
	case Credential:
		return "credential"
	case MasterKey:
		return "master key"
	case Token:
		return "token"
	}
	return "secret"
}

const (
	// scriptWait bounds an operation where nobody could answer a dialog, and personWait where somebody is typing into one.
	scriptWait = 3 * time.Second
	personWait = 60 * time.Second

	// maxSecret is what Windows takes, in bytes. With names of at most 64 characters it also keeps within the 4096 bytes of
	// the command line that go-keyring writes on macOS, in base64.
	maxSecret = 2560

	// removals bounds how often an item is removed until it is gone: an item that another program made beside keyctl's has
	// the same names.
	removals = 3
)

// Ring is the keyring of the user who runs keyctl.
type Ring struct {
	wait time.Duration // for one operation
}

// Open returns the keyring; it does nothing yet. person says that somebody is there to unlock it: an operation then waits
// for up to 60 seconds, and else for 3.
func Open(person bool) Ring {
	if person {
		return Ring{wait: personWait}
	}
	return Ring{wait: scriptWait}
}

// Check makes sure that the keyring is there and can be read, which unlocks it where somebody answers its dialog. It
// stores nothing. Else it is fault.Unavailable, with a hint for what kind is to be kept in it, and of all operations so is everything that is said about the keyring
// itself: no service, locked, no answer in time.
func (r Ring) Check(ctx context.Context, kind Kind) error {
	return r.operation(ctx, kind, readNothing)
}

// readNothing asks for an item that there is not, as "?" is no name.
func readNothing(ctx context.Context) error {
	_, err := get(ctx, Credential, "?")
	if errors.Is(err, keyring.ErrNotFound) {
		return nil
	}
	return err
}

// ErrLocked is the cause of what Look returns of a keyring that somebody only has to unlock.
var ErrLocked = errors.New("the keyring is locked")

// Look is Check for those who only look: no dialog opens, nothing is unlocked, and a keyring that the session starts on
// demand is not started. Where it cannot be used as it is, that is fault.Unavailable, with a hint for what kind is kept
// in it. On macOS and Windows it does not tell whether the keyring is locked.
func (r Ring) Look(ctx context.Context, kind Kind) error {
	return r.operation(ctx, kind, look)
}

// Load returns an item. fault.NotFound: there is none of that name.
func (r Ring) Load(ctx context.Context, kind Kind, name string) (credential.Secret, error) {
	if err := CheckName(name); err != nil {
		return credential.Secret{}, err
	}
	var secret credential.Secret
	err := r.operation(ctx, kind, func(ctx context.Context) (err error) {
		secret, err = get(ctx, kind, name)
		return missing(err, kind, name)
	})
	return secret, err
}

// Store writes an item, in the place of one of the same name, reads it back and compares (R30). After an error what was
// there before is there again, as far as the keyring goes along; only of one that does not answer in time nothing is
// known. A secret of more than 2560 bytes is fault.Invalid on every system, for it could not be stored on all.
func (r Ring) Store(ctx context.Context, kind Kind, name string, secret credential.Secret) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if size := len(secret.Reveal()); size == 0 || size > maxSecret {
		return fault.New(fault.Invalid, "a %s of %d bytes does not go into the keyring", kind.noun(), size).
			WithHint("it takes 1 to %d bytes", maxSecret)
	}
	return r.operation(ctx, kind, func(ctx context.Context) error {
		before, err := get(ctx, kind, name) // unlocks the keyring, too: from here on nothing waits for a person
		existed := err == nil
		if err != nil && !errors.Is(err, keyring.ErrNotFound) {
			return err
		}
		// An interrupt between writing and reading back would leave nobody to say what is there.
		deadline, _ := ctx.Deadline()
		ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
		defer cancel()
		if err := write(ctx, kind, name, secret); err != nil {
			putBack(ctx, kind, name, before, existed)
			return err
		}
		return nil
	})
}

// write sets an item and makes sure that it is there: a keyring whose dialog was dismissed reports success.
func write(ctx context.Context, kind Kind, name string, secret credential.Secret) error {
	_, err := ask(ctx, func() (struct{}, error) { return struct{}{}, keyring.Set(string(kind), name, secret.Reveal()) })
	if err != nil {
		return err
	}
	stored, err := get(ctx, kind, name)
	if err != nil && !errors.Is(err, keyring.ErrNotFound) {
		return err
	}
	if err != nil || !stored.Equal(secret) {
		return fault.New(fault.Unavailable, "the keyring accepted the %s %q and does not give it back", kind.noun(), name).
			WithHint("was a dialog dismissed? Look into the keyring's own program; or %s", kind.instead())
	}
	return nil
}

// putBack takes away what a failed write left, and brings back what it took.
func putBack(ctx context.Context, kind Kind, name string, before credential.Secret, existed bool) {
	now, err := get(ctx, kind, name)
	switch {
	case existed && (err != nil || !now.Equal(before)):
		_ = write(ctx, kind, name, before)
	case !existed && err == nil:
		_ = remove(ctx, kind, name)
	}
}

// Remove takes an item out, and makes sure that it is gone. fault.NotFound: there was none of that name.
func (r Ring) Remove(ctx context.Context, kind Kind, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	return r.operation(ctx, kind, func(ctx context.Context) error {
		return missing(remove(ctx, kind, name), kind, name)
	})
}

// remove is Remove within an operation, with keyring.ErrNotFound.
func remove(ctx context.Context, kind Kind, name string) error {
	for i := range removals + 1 {
		_, err := get(ctx, kind, name)
		if errors.Is(err, keyring.ErrNotFound) && i > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if i == removals {
			break
		}
		_, err = ask(ctx, func() (struct{}, error) { return struct{}{}, keyring.Delete(string(kind), name) })
		if err != nil {
			return err
		}
	}
	return fault.New(fault.Unavailable, "the keyring keeps the %s %q, though it was told to remove it", kind.noun(), name).
		WithHint("remove it with the keyring's own program: its service is %s and its user name %s", kind, name)
}

// CheckName returns fault.Invalid unless name can be an item's. The rule is that of keys' names, which every keyring takes
// as they are.
func CheckName(name string) error {
	if !credential.IsName(name) {
		return fault.New(fault.Invalid, "malformed name for the keyring").
			WithHint("a name is at most 64 letters, digits, dots, underscores and hyphens, and begins with a letter or digit")
	}
	return nil
}

// operation runs the steps of one operation within its time and words their failure.
func (r Ring) operation(ctx context.Context, kind Kind, steps func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	_, err := ask(ctx, func() (struct{}, error) { return struct{}{}, reach() })
	if err == nil {
		err = steps(ctx)
	}
	return r.explain(err, kind)
}

// get reads an item; keyring.ErrNotFound if there is none.
func get(ctx context.Context, kind Kind, name string) (credential.Secret, error) {
	return ask(ctx, func() (credential.Secret, error) {
		text, err := keyring.Get(string(kind), name)
		return credential.NewSecret(text), err
	})
}

// ask waits for one answer of the keyring as long as ctx allows. go-keyring has no way to stop, so a call that lasts longer
// stays behind; it waits in vain, and the process is about to end. It also panics when the connection breaks under an open
// dialog, and when the service answers with something else than the specification has.
func ask[T any](ctx context.Context, call func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		a := answer{err: errGarbled}
		defer func() {
			_ = recover()
			answered <- a
		}()
		value, err := call()
		a = answer{value, err}
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
