package cmd

import (
	"context"
	"errors"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/login"
)

// tokenEndsSoon is when somebody should make another token.
const tokenEndsSoon = 14 * 24 * time.Hour

// openServer reads the token and makes the client. What the server says to it the check of the server finds out.
func (e *examination) openServer(ctx context.Context) {
	client, err := e.a.openServer(ctx, e.cfg)
	if err == nil {
		e.service = client
	}
	e.serverErr = err
}

// server: does it answer, with a certificate that is trusted?
func (e *examination) server(ctx context.Context) []finding {
	if e.service == nil {
		return []finding{found(resultSkipped, "%s is not asked as long as there is no token for it", e.cfg.Server)}
	}
	who, err := e.service.Whoami(ctx)
	if err != nil {
		e.serverErr, e.service = err, nil
	}
	switch {
	case fault.Is(err, fault.Unauthenticated):
		return []finding{found(resultOK, "%s answers", e.cfg.Server)}
	case err != nil:
		return []finding{trouble(err)}
	}
	e.identity = &who
	return []finding{found(resultOK, "%s answers; it serves the store %s", e.cfg.Server, who.Store)}
}

// token: can it be read, and whom does it let in for how long?
func (e *examination) token(context.Context) []finding {
	asked := fault.From(e.serverErr) != nil && fault.From(e.serverErr).RequestID != ""
	switch {
	case errors.Is(e.serverErr, login.ErrLocked):
		return []finding{found(resultSkipped, "%s is not read as long as the keyring is locked", e.cfg.Token)}
	case fault.Is(e.serverErr, fault.Forbidden) && !asked:
		return []finding{found(resultSkipped, "%s is not read as long as its permissions are wrong", e.cfg.Token)}
	case fault.Is(e.serverErr, fault.Unavailable), fault.Is(e.serverErr, fault.Unsupported):
		return []finding{found(resultSkipped, "it could not be tried")}
	case e.serverErr != nil:
		return []finding{trouble(e.serverErr)}
	}
	return []finding{aboutToken(*e.identity.Token, e.a.now())}
}

func aboutToken(t keys.TokenView, now time.Time) finding {
	if t.ExpiresAt == nil {
		return found(resultOK, "%s lets %q in, as %s, without an end", t.ID, t.Operator, string(t.Role))
	}
	until := t.ExpiresAt.Format(time.RFC3339)
	if t.ExpiresAt.Sub(now) <= tokenEndsSoon {
		return found(resultWarning, "%s lets %q in until %s only", t.ID, t.Operator, until).
			hint("`keyctl tokens create` makes another, and `keyctl login` takes it")
	}
	return found(resultOK, "%s lets %q in, as %s, until %s", t.ID, t.Operator, string(t.Role), until)
}
