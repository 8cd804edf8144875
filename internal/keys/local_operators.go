package keys

import (
	"context"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/audit"
	"keyctl/internal/fault"
)

var _ Team = (*Local)(nil)

// Whoami implements Team.
func (l *Local) Whoami(ctx context.Context) (Identity, error) {
	id := Identity{Operator: l.caller.Name, Role: l.role(), Store: l.storeID}
	if l.token == nil {
		return id, nil
	}
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		whole, err := tx.Token(l.token.ID)
		if err != nil {
			return err
		}
		token, err := viewToken(tx, whole, l.caller, now)
		id.Token = &token
		return err
	})
	return id, err
}

// role is what the caller may do. Who opens a local store holds its master key, and is an owner whatever name he has.
func (l *Local) role() access.Role {
	if l.token == nil {
		return access.Owner
	}
	return l.caller.Role
}

// Operator implements Team.
func (l *Local) Operator(ctx context.Context, name string) (OperatorView, error) {
	var view OperatorView
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		o, err := l.findOperator(tx, name)
		if err != nil {
			return err
		}
		tokens, err := tx.Tokens()
		if err != nil {
			return err
		}
		view, err = viewOperator(tx, o, tokens, now)
		return err
	})
	return view, err
}

// Operators implements Team.
func (l *Local) Operators(ctx context.Context) ([]OperatorView, error) {
	var views []OperatorView
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		views = []OperatorView{}
		operators, err := tx.Operators()
		if err != nil {
			return err
		}
		tokens, err := tx.Tokens()
		if err != nil {
			return err
		}
		for _, o := range operators {
			if o.State() == OperatorDeleted || l.hides(o) {
				continue
			}
			view, err := viewOperator(tx, o, tokens, now)
			if err != nil {
				return err
			}
			views = append(views, view)
		}
		return nil
	})
	return views, err
}

// hides reports whether an operator is none of the caller's business.
func (l *Local) hides(o Operator) bool {
	role := l.role()
	return o.ID != l.caller.ID && (role == access.CI || role == access.Verifier)
}

// findOperator finds an operator that the caller may know of.
func (l *Local) findOperator(tx Tx, name string) (Operator, error) {
	o, err := tx.Operator(name)
	if err == nil && l.hides(o) {
		err = fault.New(fault.NotFound, "no operator %q", name)
	}
	if f := fault.From(err); f != nil && f.Code == fault.NotFound {
		return Operator{}, f.WithHint("`keyctl operators list` shows the operators")
	}
	return o, err
}

func viewOperator(tx Tx, o Operator, tokens []Token, now time.Time) (OperatorView, error) {
	view := OperatorView{ID: o.ID, Name: o.Name, Role: o.Role, State: o.State(), CreatedAt: o.CreatedAt}
	if o.CreatedBy != "" {
		view.CreatedBy = &o.CreatedBy
	}
	for _, k := range tokens {
		if k.OperatorID == o.ID && k.State(now) == TokenActive {
			view.Tokens++
		}
	}
	factor, err := tx.SecondFactor(o.ID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return view, err
	}
	view.SecondFactor = err == nil && !factor.ConfirmedAt.IsZero()
	return view, nil
}

// ownersOnly refuses a change of operators to everybody else.
func (l *Local) ownersOnly() error {
	if l.role() != access.Owner {
		return fault.New(fault.Forbidden, "only an owner changes operators")
	}
	return nil
}

// CreateOperator implements Team.
func (l *Local) CreateOperator(ctx context.Context, request NewOperator) (OperatorView, error) {
	if err := ValidateName("operator", request.Name); err != nil {
		return OperatorView{}, err
	}
	if _, err := access.ParseRole(string(request.Role)); err != nil {
		return OperatorView{}, err
	}
	id, err := drawID("op_", l.env.Rand)
	if err != nil {
		return OperatorView{}, err
	}
	check := func(c *change) (bool, error) {
		switch taken, err := c.Operator(request.Name); {
		case fault.Is(err, fault.NotFound):
			return false, l.ownersOnly()
		case err != nil:
			return false, err
		case taken.State() == OperatorDeleted:
			return false, fault.New(fault.Exists, "there was an operator %q, which is deleted", request.Name).
				WithHint("choose another name: the audit log names operators, so each name is given once")
		}
		return false, fault.New(fault.Exists, "there is an operator %q already", request.Name).
			WithHint("choose another name, or change that one: `keyctl operators edit %s`", request.Name)
	}
	var view OperatorView
	err = l.grant(ctx, "operators.create", request.Role, request.Code, check, func(c *change) error {
		o := Operator{ID: id, Name: request.Name, Role: request.Role, CreatedAt: c.now, CreatedBy: l.caller.Name}
		if err := c.PutOperator(o); err != nil {
			return err
		}
		c.note("operators.create", operatorObject(o), "role", string(o.Role))
		view, err = viewOperator(c, o, nil, c.now)
		return err
	})
	return view, err
}

// grant runs a change that gives somebody a role. The role of an owner asks for a code.
func (l *Local) grant(ctx context.Context, action string, role access.Role, code string, check func(*change) (bool, error), apply func(*change) error) error {
	if role == access.Owner {
		return l.guarded(ctx, action, code, check, apply)
	}
	return l.update(ctx, func(c *change) error {
		if done, err := check(c); done || err != nil {
			return err
		}
		return apply(c)
	})
}

// SetRole implements Team.
func (l *Local) SetRole(ctx context.Context, name string, role access.Role, code string) (OperatorView, error) {
	if _, err := access.ParseRole(string(role)); err != nil {
		return OperatorView{}, err
	}
	var view OperatorView
	var o Operator
	check := func(c *change) (done bool, err error) {
		if o, err = l.operatorToChange(c, name); err != nil {
			return false, err
		}
		if o.State() == OperatorDeleted {
			return false, operatorDeleted(o)
		}
		if o.Role == role {
			c.noteOutcome("operators.edit", operatorObject(o), audit.NoOp, "role", string(role))
			view, err = l.viewChanged(c, o)
			return true, err
		}
		return false, keepsAnOwner(c, o)
	}
	err := l.grant(ctx, "operators.edit", role, code, check, func(c *change) error {
		c.note("operators.edit", operatorObject(o), "role", string(role), "former_role", string(o.Role))
		o.Role = role
		if err := c.PutOperator(o); err != nil {
			return err
		}
		var err error
		view, err = l.viewChanged(c, o)
		return err
	})
	return view, err
}

// operatorToChange finds the operator that a change is about.
func (l *Local) operatorToChange(c *change, name string) (Operator, error) {
	if err := l.ownersOnly(); err != nil {
		return Operator{}, err
	}
	return l.findOperator(c, name)
}

func operatorDeleted(o Operator) error {
	return fault.New(fault.NotFound, "the operator %q is deleted", o.Name).WithHint("create one with another name")
}

// keepsAnOwner refuses what would take the last owner's power: nobody could give it back.
func keepsAnOwner(tx Tx, o Operator) error {
	if o.Role != access.Owner || o.State() != OperatorActive {
		return nil
	}
	operators, err := tx.Operators()
	if err != nil {
		return err
	}
	for _, other := range operators {
		if other.ID != o.ID && other.Role == access.Owner && other.State() == OperatorActive {
			return nil
		}
	}
	return fault.New(fault.Forbidden, "the operator %q is the last owner", o.Name).WithHint("make another owner first")
}

func (l *Local) viewChanged(c *change, o Operator) (OperatorView, error) {
	tokens, err := c.Tokens()
	if err != nil {
		return OperatorView{}, err
	}
	return viewOperator(c, o, tokens, c.now)
}

// DisableOperator implements Team.
func (l *Local) DisableOperator(ctx context.Context, name string) (OperatorView, error) {
	return l.turnOperator(ctx, "operators.disable", name, OperatorDisabled, func(c *change, o *Operator) error {
		o.DisabledAt = c.now
		return keepsAnOwner(c, Operator{ID: o.ID, Name: o.Name, Role: o.Role})
	})
}

// EnableOperator implements Team.
func (l *Local) EnableOperator(ctx context.Context, name string) (OperatorView, error) {
	return l.turnOperator(ctx, "operators.enable", name, OperatorActive, func(_ *change, o *Operator) error {
		o.DisabledAt = time.Time{}
		return nil
	})
}

// DeleteOperator implements Team.
func (l *Local) DeleteOperator(ctx context.Context, name string) (OperatorView, error) {
	return l.turnOperator(ctx, "operators.delete", name, OperatorDeleted, func(c *change, o *Operator) error {
		if err := keepsAnOwner(c, *o); err != nil {
			return err
		}
		o.DeletedAt = c.now
		tokens, err := c.Tokens()
		if err != nil {
			return err
		}
		for _, k := range tokens {
			if k.OperatorID != o.ID || k.State(c.now) != TokenActive {
				continue
			}
			k.RevokedAt = c.now
			if err := c.PutToken(k); err != nil {
				return err
			}
			c.note("tokens.revoke", tokenObject(k, *o), "with", "operators.delete")
		}
		return c.DeleteSecondFactor(o.ID)
	})
}

// turnOperator brings an operator into a state; one that is in it already is a no-op.
func (l *Local) turnOperator(ctx context.Context, action, name string, state OperatorState, turn func(*change, *Operator) error) (OperatorView, error) {
	var view OperatorView
	err := l.update(ctx, func(c *change) error {
		o, err := l.operatorToChange(c, name)
		if err != nil {
			return err
		}
		switch o.State() {
		case state:
			c.noteOutcome(action, operatorObject(o), audit.NoOp)
		case OperatorDeleted:
			return operatorDeleted(o)
		default:
			if err := turn(c, &o); err != nil {
				return err
			}
			if err := c.PutOperator(o); err != nil {
				return err
			}
			c.note(action, operatorObject(o))
		}
		view, err = l.viewChanged(c, o)
		return err
	})
	return view, err
}
