// Package access knows what proves that somebody may act: roles, authenticator codes, the throttle on wrong codes, and
// recovery codes.
//
// It is pure: the time, the random source and every stored value are arguments, and nothing is read or kept. Replay
// protection and the counting of failures need a store and its transactions; this package says what to store, package keys
// stores it. It deliberately has no clock, no sessions and no cache of used codes.
package access

import "keyctl/internal/fault"

// Role is what an operator may do, by name.
type Role string

// The roles, from the most to the least powerful.
const (
	Owner    Role = "owner"    // everything, the operators and their second factors included
	Admin    Role = "admin"    // keys and datasets, rolls with an authenticator code
	CI       Role = "ci"       // makes, activates and disables keys of its own
	Auditor  Role = "auditor"  // reads metadata and the audit log
	Verifier Role = "verifier" // asks whether a credential would be let in, nothing else
)

// Roles returns every role once, in the order above.
func Roles() []Role { return []Role{Owner, Admin, CI, Auditor, Verifier} }

// ParseRole returns the role of that name. Names compare byte by byte, without trimming, case folding or normalising:
// what looks like a role to one component must not be another one to the next. Any other text is fault.Invalid.
func ParseRole(text string) (Role, error) {
	for _, role := range Roles() {
		if text == string(role) {
			return role, nil
		}
	}
	return "", fault.New(fault.Invalid, "no such role").
		WithHint("one of %q, %q, %q, %q, %q, written exactly so", Owner, Admin, CI, Auditor, Verifier)
}
