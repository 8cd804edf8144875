package login

import (
	"context"
	"errors"
	"time"

	"github.com/zalando/go-keyring"

	"keyctl/internal/fault"
)

// errGarbled stands for a panic in go-keyring.
var errGarbled = errors.New("the keyring's answer makes no sense")

// instead is the way around a keyring that is of no use.
func (k Kind) instead() string {
	switch k {
	case MasterKey:
		return "let the master key come from another place, with --master-key file:PATH"
	case Token:
		return "keep the token in a private file, with --out FILE"
	}
	return "keep credentials in files, with --out FILE and --from FILE"
}

// missing words go-keyring's one typed error.
func missing(err error, kind Kind, name string) error {
	if errors.Is(err, keyring.ErrNotFound) {
		return fault.New(fault.NotFound, "no %s %q in the keyring", kind.noun(), name).WithCause(err)
	}
	return err
}

// explain makes an error of an operation one for the user. Whatever go-keyring does not type means that the keyring is
// unavailable; the system's part of this package tells why, as far as its errors say.
func (r Ring) explain(err error, kind Kind) error {
	unavailable := func(message, hint string) error {
		return fault.New(fault.Unavailable, "%s", message).WithHint("%s; or %s", hint, kind.instead()).WithCause(err)
	}
	switch {
	case err == nil || fault.From(err) != nil:
		return err
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return unavailable("the keyring did not answer within "+r.wait.Round(time.Millisecond).String(),
			"it may be waiting for somebody to unlock it: do so, then run the command again")
	case errors.Is(err, keyring.ErrUnsupportedPlatform):
		return fault.New(fault.Unavailable, "keyctl knows no keyring on this system").WithHint("%s", kind.instead()).WithCause(err)
	}
	message, hint := reason(err)
	return unavailable(message, hint)
}
