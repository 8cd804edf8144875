package keys

import (
	"strings"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// minPrefix is the shortest beginning of an id that names a key.
const minPrefix = 6

// maxCandidates is how many keys an ambiguous prefix lists.
const maxCandidates = 10

// findKey resolves a KEY argument; see Service for its forms. A key that lapsed is not there, also before a write tidies
// it away.
func findKey(tx Tx, ref string, now time.Time) (KeyRecord, error) {
	rec, err := lookUpKey(tx, ref)
	if err == nil && rec.lapsed(now) {
		return KeyRecord{}, noKey(ref)
	}
	return rec, err
}

func lookUpKey(tx Tx, ref string) (KeyRecord, error) {
	rec, err := tx.KeyByName(ref)
	if !fault.Is(err, fault.NotFound) {
		return rec, err
	}
	if credential.IsAccessKeyID(ref) {
		if c, err := tx.Credential(ref); err == nil {
			return tx.Key(c.KeyID)
		} else if !fault.Is(err, fault.NotFound) {
			return KeyRecord{}, err
		}
	}
	if rec, err := tx.Key(ref); !fault.Is(err, fault.NotFound) {
		return rec, err
	}
	if len(ref) < minPrefix {
		return KeyRecord{}, noKey(ref)
	}
	candidates, err := tx.KeysByIDPrefix(ref, maxCandidates)
	switch {
	case err != nil:
		return KeyRecord{}, err
	case len(candidates) == 0:
		return KeyRecord{}, noKey(ref)
	case len(candidates) > 1:
		return KeyRecord{}, ambiguous(ref, candidates)
	}
	return candidates[0], nil
}

func noKey(ref string) error {
	if looksSecret(ref) {
		return fault.New(fault.NotFound, "no such key; what was given looks like a secret, not a name or an id").
			WithHint("treat that secret as leaked: roll the key it belongs to")
	}
	return fault.New(fault.NotFound, "no key %q", ref).WithHint("`keyctl keys list` shows the keys")
}

func ambiguous(ref string, candidates []KeyRecord) error {
	names := make([]string, len(candidates))
	for i, k := range candidates {
		names[i] = k.Name + " (" + k.ID + ")"
	}
	return fault.New(fault.Invalid, "%q begins the id of several keys: %s", ref, strings.Join(names, ", ")).
		WithHint("give a name or more of the id")
}

// stateError is the refusal of a key in a state that does not allow what was asked for.
func stateError(k Key, state KeyState) error {
	switch state {
	case KeyPending:
		return fault.New(fault.KeyPending, "the key %q is pending: its credential was never proven", k.Name).
			WithHint("prove it with `keyctl keys activate --from FILE`, or create the key again")
	case KeyDisabled:
		return fault.New(fault.KeyDisabled, "the key %q is disabled", k.Name).WithHint("`keyctl keys enable %s` undoes that", k.Name)
	case KeyCompromised:
		return fault.New(fault.KeyDisabled, "the key %q is disabled for good: it was marked compromised", k.Name).
			WithHint("delete it and create another")
	case KeyExpired:
		return fault.New(fault.KeyExpired, "the key %q expired at %s", k.Name, k.ExpiresAt.Format(time.RFC3339)).
			WithHint("delete it and create another")
	case KeyDeleted:
		return fault.New(fault.KeyDeleted, "the key %q is deleted", k.Name).WithHint("create another")
	}
	return nil
}

// requireState refuses a key whose state is not among those allowed.
func requireState(k Key, now time.Time, allowed ...KeyState) error {
	state := k.State(now)
	for _, s := range allowed {
		if s == state {
			return nil
		}
	}
	if state == KeyActive {
		return fault.New(fault.Internal, "the key %q is active", k.Name)
	}
	return stateError(k, state)
}
