package keys

import (
	"context"
	"net/netip"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
)

// Team is who administers: operators, and the tokens that let them in over the network. Its methods keep the promises of
// Service.
//
// Owners change operators. Owners and admins make and revoke tokens: an admin for itself, and for operators whose role is
// below its own. Everybody else sees and may revoke only what is its own; the rest is not_found.
type Team interface {
	// Whoami returns who the caller is.
	Whoami(ctx context.Context) (Identity, error)

	// Operator returns one operator by its exact name, a deleted one too.
	Operator(ctx context.Context, name string) (OperatorView, error)
	// Operators returns all operators that are not deleted, in the order they were made.
	Operators(ctx context.Context) ([]OperatorView, error)
	// CreateOperator makes an operator. exists: the name is taken, or was another operator's once. An owner asks for a
	// code.
	CreateOperator(ctx context.Context, request NewOperator) (OperatorView, error)
	// SetRole gives an operator another role. forbidden: it is the last owner. Making an owner asks for a code. Repeating
	// it is a no-op.
	SetRole(ctx context.Context, name string, role access.Role, code string) (OperatorView, error)
	// DisableOperator keeps an operator out, from the next request on. forbidden: it is the last owner. Repeating it is a
	// no-op.
	DisableOperator(ctx context.Context, name string) (OperatorView, error)
	// EnableOperator undoes it.
	EnableOperator(ctx context.Context, name string) (OperatorView, error)
	// DeleteOperator ends an operator for good: its tokens are revoked, its second factor is removed, and its name is not
	// given again. forbidden: it is the last owner. Repeating it is a no-op.
	DeleteOperator(ctx context.Context, name string) (OperatorView, error)

	// Tokens returns the tokens that can still let somebody in, or with all set every token, in the order they were made.
	Tokens(ctx context.Context, all bool) ([]TokenView, error)
	// CreateToken makes a token that its caller drew. Repeating the request with the same token returns the first answer;
	// the same id with anything else is id_conflict. not_found: no such operator or dataset.
	CreateToken(ctx context.Context, request NewToken) (TokenView, error)
	// RevokeToken ends a token, from the next request on. Repeating it is a no-op.
	RevokeToken(ctx context.Context, id string) (TokenView, error)
}

// Identity is who a caller is.
type Identity struct {
	Operator string      `json:"operator"`
	Role     access.Role `json:"role"`
	Store    string      `json:"store"` // the store's id
	Token    *TokenView  `json:"token"` // null on a local store
}

// OperatorView is what keyctl says about an operator.
type OperatorView struct {
	ID           string        `json:"id"`
	Name         string        `json:"name"`
	Role         access.Role   `json:"role"`
	State        OperatorState `json:"state"`
	SecondFactor bool          `json:"second_factor"` // enrolled and confirmed
	Tokens       int           `json:"tokens"`        // that can still let it in
	CreatedAt    time.Time     `json:"created_at"`
	CreatedBy    *string       `json:"created_by"` // null for the operator that init made
}

// NewOperator asks for an operator.
type NewOperator struct {
	Name string
	Role access.Role
	Code string // for an owner
}

// Token lets an operator in over the network, as stored. The token itself is not: only a MAC of it.
type Token struct {
	ID          string // the part of the token's text it is looked up by: 12 base62 digits
	OperatorID  string
	Description string
	MAC         []byte
	Datasets    []string // ids; what a ci operator may create keys for with it
	CreatedAt   time.Time
	CreatedBy   string
	ExpiresAt   time.Time // zero: never
	RevokedAt   time.Time

	LastUsedAt   time.Time // to the minute
	LastUsedFrom string
}

// TokenState is a token's condition at one instant, as one word.
type TokenState string

// The states of tokens. Only an active one lets its operator in.
const (
	TokenActive  TokenState = "active"
	TokenExpired TokenState = "expired"
	TokenRevoked TokenState = "revoked"
)

// State computes the token's state. Limits are half-open: at ExpiresAt the token is expired.
func (k Token) State(now time.Time) TokenState {
	switch {
	case !k.RevokedAt.IsZero():
		return TokenRevoked
	case reached(k.ExpiresAt, now):
		return TokenExpired
	}
	return TokenActive
}

// TokenView is what keyctl says about a token. Nothing in it is secret.
type TokenView struct {
	ID           string      `json:"id"`
	Operator     string      `json:"operator"`
	Role         access.Role `json:"role"` // the operator's
	Description  string      `json:"description"`
	State        TokenState  `json:"state"`
	Datasets     []string    `json:"datasets"` // names; of a ci operator's token alone
	CreatedAt    time.Time   `json:"created_at"`
	CreatedBy    string      `json:"created_by"`
	ExpiresAt    *time.Time  `json:"expires_at"`
	LastUsedAt   *time.Time  `json:"last_used_at"`
	LastUsedFrom *string     `json:"last_used_from"`
}

// NewToken asks for a token. The caller draws it (credential.DrawOperatorToken), so that a repeated request makes no
// second one.
type NewToken struct {
	Token       credential.Secret
	Operator    string // empty: the caller
	Description string
	Datasets    []string  // names; a ci operator's only
	ExpiresAt   time.Time // zero: never
}

// Origin is where a request came from.
type Origin struct {
	Address   netip.Addr
	RequestID string
}
