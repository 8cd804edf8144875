package keys

import (
	"time"

	"keyctl/internal/access"
)

// Operator is a person or machine that administers, as stored. The first one is made by init, an owner named after the OS
// user. A name is given once: it stands in the audit log and on the keys the operator made.
type Operator struct {
	ID         string // "op_" and 22 base62 characters
	Name       string
	Role       access.Role
	CreatedAt  time.Time
	CreatedBy  string // the name of another operator; empty for the first one
	DisabledAt time.Time
	DeletedAt  time.Time
}

// OperatorState is an operator's condition, as one word.
type OperatorState string

// The states of operators. Only an active one is let in.
const (
	OperatorActive   OperatorState = "active"
	OperatorDisabled OperatorState = "disabled" // can be enabled again
	OperatorDeleted  OperatorState = "deleted"  // for good
)

// State computes the operator's state.
func (o Operator) State() OperatorState {
	switch {
	case !o.DeletedAt.IsZero():
		return OperatorDeleted
	case !o.DisabledAt.IsZero():
		return OperatorDisabled
	}
	return OperatorActive
}

// SecondFactor is an operator's authenticator, as stored: one TOTP credential (RFC 6238) with its replay guard and its
// throttle. It counts per operator, so no other name, key or address gives a fresh budget of guesses.
type SecondFactor struct {
	OperatorID  string
	Seed        []byte // sealed
	CreatedAt   time.Time
	ConfirmedAt time.Time // zero until the first right code: not enrolled yet
	LastStep    int64     // newest time step a code was accepted for; only a later one is accepted
	Throttle    access.Throttle
}

// OTPStatus is what keyctl says about an operator's second factor.
type OTPStatus struct {
	Operator          string     `json:"operator"`
	Enrolled          bool       `json:"enrolled"`
	EnrolledAt        *time.Time `json:"enrolled_at"`
	Unconfirmed       bool       `json:"unconfirmed"` // enrolment begun, first code not given yet
	RecoveryCodesLeft int        `json:"recovery_codes_left"`
	Failures          int        `json:"failures"` // wrong codes in a row
	LockedUntil       *time.Time `json:"locked_until"`
	Disabled          bool       `json:"disabled"` // too many wrong codes: reset and enrol again
}
