package keys

import (
	"time"

	"keyctl/internal/access"
)

// Operator is a person or machine that administers, as stored. On a local store there is one, made by init and named
// after the OS user.
type Operator struct {
	ID        string // "op_" and 22 base62 characters
	Name      string
	Role      access.Role
	CreatedAt time.Time
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
