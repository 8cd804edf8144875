package access

import "slices"

// Permission is one thing that a role may or may not do. Every route of the HTTP API carries exactly one.
type Permission string

// The permissions.
const (
	KeysRead         Permission = "keys.read"
	KeysCreate       Permission = "keys.create" // and prove, withdraw: what takes a key from its draft to being active
	KeysEdit         Permission = "keys.edit"
	KeysDisable      Permission = "keys.disable"
	KeysDelete       Permission = "keys.delete"
	KeysRoll         Permission = "keys.roll" // and what changes a roll afterwards
	DatasetsRead     Permission = "datasets.read"
	DatasetsWrite    Permission = "datasets.write"
	PrimaryKeysRead  Permission = "primary-keys.read"
	PrimaryKeysWrite Permission = "primary-keys.write"
	OTPOwn           Permission = "otp.own" // one's own second factor
	Verify           Permission = "verify"
	AuditRead        Permission = "audit.read"
	OperatorsRead    Permission = "operators.read"
	OperatorsWrite   Permission = "operators.write" // and their second factors
	TokensRead       Permission = "tokens.read"
	TokensWrite      Permission = "tokens.write"
	TokensRevoke     Permission = "tokens.revoke" // one's own; others' as the role allows
	SelfRead         Permission = "self.read"
)

// Permissions returns every permission once, in the order above.
func Permissions() []Permission {
	return []Permission{
		KeysRead, KeysCreate, KeysEdit, KeysDisable, KeysDelete, KeysRoll, DatasetsRead, DatasetsWrite, PrimaryKeysRead,
		PrimaryKeysWrite, OTPOwn, Verify, AuditRead, OperatorsRead, OperatorsWrite, TokensRead, TokensWrite, TokensRevoke, SelfRead,
	}
}

// granted is what the roles may do that may not do everything. What is not listed is denied.
var granted = map[Role][]Permission{
	CI:       {KeysRead, KeysCreate, KeysDisable, TokensRevoke, SelfRead},
	Auditor:  {KeysRead, DatasetsRead, PrimaryKeysRead, AuditRead, OperatorsRead, TokensRead, TokensRevoke, SelfRead},
	Verifier: {Verify, TokensRevoke, SelfRead},
}

// May reports whether the role has the permission. A role that is not known has none.
func (r Role) May(p Permission) bool {
	switch r {
	case Owner:
		return slices.Contains(Permissions(), p)
	case Admin:
		return p != OperatorsWrite && slices.Contains(Permissions(), p)
	}
	return slices.Contains(granted[r], p)
}
