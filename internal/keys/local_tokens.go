package keys

import (
	"bytes"
	"context"
	"slices"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/audit"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// The longest description of a token, and how often its use is written down.
const (
	maxTokenDescription = maxDescription
	touchEvery          = time.Minute
)

func tokenObject(k Token, o Operator) audit.Object {
	return audit.Object{Type: "token", ID: k.ID, Name: o.Name}
}

// tokenMAC is the form in which a token is stored and compared. It is keyed: who can write rows but has no master key
// cannot plant a token of his own.
func (l *Local) tokenMAC(id string, token credential.Secret) []byte {
	return l.keyring.MAC("operator-token", []byte(id), []byte(token.Reveal()))
}

// Tokens implements Team.
func (l *Local) Tokens(ctx context.Context, all bool) ([]TokenView, error) {
	var views []TokenView
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		views = []TokenView{}
		tokens, err := tx.Tokens()
		if err != nil {
			return err
		}
		for _, k := range tokens {
			if !all && k.State(now) != TokenActive {
				continue
			}
			o, err := tx.OperatorByID(k.OperatorID)
			if err != nil {
				return err
			}
			if l.seesToken(k) {
				view, err := viewToken(tx, k, o, now)
				if err != nil {
					return err
				}
				views = append(views, view)
			}
		}
		return nil
	})
	return views, err
}

// seesToken reports whether the caller may know of a token: its own, or any for those who look after tokens or read all.
func (l *Local) seesToken(k Token) bool {
	switch l.role() {
	case access.Owner, access.Admin, access.Auditor:
		return true
	}
	return k.OperatorID == l.caller.ID
}

// viewToken names the datasets of a token; one that is deleted is left out, for it opens nothing any more.
func viewToken(tx Tx, k Token, o Operator, now time.Time) (TokenView, error) {
	view := TokenView{
		ID: k.ID, Operator: o.Name, Role: o.Role, Description: k.Description, State: k.State(now), Datasets: []string{},
		CreatedAt: k.CreatedAt, CreatedBy: k.CreatedBy, ExpiresAt: optional(k.ExpiresAt), LastUsedAt: optional(k.LastUsedAt),
	}
	if k.LastUsedFrom != "" {
		view.LastUsedFrom = &k.LastUsedFrom
	}
	for _, id := range k.Datasets {
		d, err := tx.Dataset(id)
		if fault.Is(err, fault.NotFound) || err == nil && !d.DeletedAt.IsZero() {
			continue
		}
		if err != nil {
			return view, err
		}
		view.Datasets = append(view.Datasets, d.Name)
	}
	return view, nil
}

// CreateToken implements Team.
func (l *Local) CreateToken(ctx context.Context, request NewToken) (TokenView, error) {
	id, err := credential.OperatorTokenID(request.Token)
	if err != nil {
		return TokenView{}, err
	}
	if err := validateText("description", request.Description, maxTokenDescription); err != nil {
		return TokenView{}, err
	}
	expires := Instant(request.ExpiresAt)
	if err := encodable(expires); err != nil {
		return TokenView{}, err
	}
	if request.Operator == "" {
		request.Operator = l.caller.Name
	}
	wanted := Token{ID: id, Description: request.Description, MAC: l.tokenMAC(id, request.Token), ExpiresAt: expires}
	var view TokenView
	err = l.update(ctx, func(c *change) error {
		o, err := l.tokenHolder(c, request.Operator)
		if err != nil {
			return err
		}
		wanted.OperatorID, wanted.CreatedAt, wanted.CreatedBy = o.ID, c.now, l.caller.Name
		if wanted.Datasets, err = tokenDatasets(c, o, request.Datasets); err != nil {
			return err
		}
		made, err := c.Token(id)
		switch {
		case err == nil && !made.answers(wanted):
			return fault.New(fault.IDConflict, "the token id %s was used for another request", id).WithHint("draw a new token")
		case err == nil:
			view, err = viewToken(c, made, o, c.now)
			return err
		case !fault.Is(err, fault.NotFound):
			return err
		case reached(expires, c.now):
			return pastDate(expires)
		}
		if err := c.PutToken(wanted); err != nil {
			return err
		}
		c.note("tokens.create", tokenObject(wanted, o))
		view, err = viewToken(c, wanted, o, c.now)
		return err
	})
	return view, err
}

// answers reports whether a token is what a request asks for, so that the request is a repeat.
func (k Token) answers(wanted Token) bool {
	return bytes.Equal(k.MAC, wanted.MAC) && k.OperatorID == wanted.OperatorID && k.Description == wanted.Description &&
		slices.Equal(k.Datasets, wanted.Datasets) && k.ExpiresAt.Equal(wanted.ExpiresAt)
}

// tokenHolder finds the operator a token is to be for, if the caller may make one for it.
func (l *Local) tokenHolder(c *change, name string) (Operator, error) {
	o, err := l.findOperator(c, name)
	if err != nil {
		return o, err
	}
	if !l.mayHandTokensTo(o) {
		return o, fault.New(fault.Forbidden, "the role %q makes no tokens for %q, whose role is %q", string(l.role()), name, string(o.Role))
	}
	switch o.State() {
	case OperatorDeleted:
		return o, operatorDeleted(o)
	case OperatorDisabled:
		return o, fault.New(fault.Forbidden, "the operator %q is disabled", name).WithHint("`keyctl operators enable %s` undoes that", name)
	}
	return o, nil
}

// mayHandTokensTo decides that no token gives its maker more than he had: roles are listed from the most powerful down.
func (l *Local) mayHandTokensTo(o Operator) bool {
	switch role := l.role(); role {
	case access.Owner:
		return true
	case access.Admin:
		return o.ID == l.caller.ID || slices.Index(access.Roles(), o.Role) > slices.Index(access.Roles(), role)
	}
	return false
}

// tokenDatasets finds what a ci operator's token may create keys for. No other role is limited to datasets.
func tokenDatasets(tx Tx, o Operator, names []string) ([]string, error) {
	if len(names) > 0 && o.Role != access.CI {
		return nil, fault.New(fault.Invalid, "the role %q is not limited to datasets", string(o.Role)).
			WithHint("datasets limit the tokens of operators with the role %q", string(access.CI))
	}
	var ids []string
	for _, name := range names {
		d, err := findDataset(tx, name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, d.ID) {
			ids = append(ids, d.ID)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// RevokeToken implements Team.
func (l *Local) RevokeToken(ctx context.Context, id string) (TokenView, error) {
	var view TokenView
	err := l.update(ctx, func(c *change) error {
		k, err := c.Token(id)
		if err == nil && !l.seesToken(k) {
			err = fault.New(fault.NotFound, "no token %q", id)
		}
		if f := fault.From(err); f != nil && f.Code == fault.NotFound {
			return f.WithHint("`keyctl tokens list` shows the tokens")
		}
		if err != nil {
			return err
		}
		o, err := c.OperatorByID(k.OperatorID)
		if err != nil {
			return err
		}
		if k.OperatorID != l.caller.ID && !l.mayHandTokensTo(o) {
			return fault.New(fault.Forbidden, "the role %q does not revoke tokens of %q", string(l.role()), o.Name)
		}
		if k.State(c.now) == TokenRevoked {
			c.noteOutcome("tokens.revoke", tokenObject(k, o), audit.NoOp)
		} else {
			k.RevokedAt = c.now
			if err := c.PutToken(k); err != nil {
				return err
			}
			c.note("tokens.revoke", tokenObject(k, o))
		}
		view, err = viewToken(c, k, o, c.now)
		return err
	})
	return view, err
}

// Admit makes a Service that acts for the operator whose token it is given, for one request. Nothing is kept from one
// request to the next, so what ends a token or an operator is obeyed by the next request.
//
// unauthenticated: for a text that is no token, an unknown one and a wrong one alike, after the same work; who proved to
// hold the token is told that it expired or was revoked, or that its operator is disabled, and Refusals names him.
func (l *Local) Admit(ctx context.Context, token credential.Secret, from Origin) (*Local, error) {
	id, err := credential.OperatorTokenID(token)
	if err != nil {
		id = "" // looked up and compared all the same
	}
	var admitted *Local
	var now time.Time
	err = l.store.View(ctx, func(tx Tx) error {
		now = Instant(l.env.Now())
		tx.StandsAlone()
		known, operator, err := tx.Bearer(id)
		found := err == nil
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if right := l.holds(token, id, l.macOr(found, known)); !right || !found {
			return notAdmitted()
		}
		admitted, err = l.admitted(known, operator, from, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	admitted.touch(ctx, now)
	return admitted, nil
}

// holds compares a token with the MAC of the one that has its id.
func (l *Local) holds(token credential.Secret, id string, mac []byte) bool {
	return l.keyring.CheckMAC(mac, "operator-token", []byte(id), []byte(token.Reveal()))
}

// admitted acts for the operator of a token whose holder proved it.
func (l *Local) admitted(k Token, o Operator, from Origin, now time.Time) (*Local, error) {
	a := *l
	a.caller, a.token, a.origin = o, &k, from
	if err := admissible(k, o, now); err != nil {
		return nil, &holderRefused{err, &a}
	}
	return &a, nil
}

// holderRefused is the refusal of who proved to hold a token that lets nobody in any more.
type holderRefused struct {
	error
	holder *Local // whom it let in once; for the record alone
}

func (e *holderRefused) Unwrap() error { return e.error }

// macOr is the stored MAC of a token, or for one that is not there a value of the same form that nothing fits.
func (l *Local) macOr(found bool, k Token) []byte {
	if found {
		return k.MAC
	}
	return l.keyring.MAC("no-token")
}

func notAdmitted() error {
	return fault.New(fault.Unauthenticated, "the token is not valid").WithHint("`keyctl login SERVER` keeps a new one")
}

// admissible refuses a right token whose time is over.
func admissible(k Token, o Operator, now time.Time) error {
	hint := "ask an owner for a new one, then `keyctl login SERVER`"
	switch {
	case k.State(now) == TokenRevoked:
		return fault.New(fault.Unauthenticated, "the token %s was revoked", k.ID).WithHint("%s", hint)
	case k.State(now) == TokenExpired:
		return fault.New(fault.Unauthenticated, "the token %s expired at %s", k.ID, k.ExpiresAt.Format(time.RFC3339)).WithHint("%s", hint)
	case o.State() != OperatorActive:
		return fault.New(fault.Unauthenticated, "the operator %q is %s", o.Name, string(o.State()))
	}
	return nil
}

// touch remembers the use of the caller's token, once a minute at most. A store that cannot be written to lets readers in
// all the same, so a failure is passed over.
func (l *Local) touch(ctx context.Context, now time.Time) {
	if now.Before(l.token.LastUsedAt.Add(touchEvery)) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	address := l.origin.address()
	_ = l.store.Update(ctx, func(tx Tx) error { return tx.TouchToken(l.token.ID, now, address) })
}

// address is the origin's address as it is recorded; empty for a local command.
func (o Origin) address() string {
	if !o.Address.IsValid() {
		return ""
	}
	return o.Address.String()
}
