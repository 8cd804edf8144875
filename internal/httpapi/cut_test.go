package httpapi_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// cutWorlds is how many servers the cuts are spread over: nearly all of their time a client waits before it tries again.
const cutWorlds = 24

// cutWorld is a server whose answers get lost. One test goroutine at a time works on it.
type cutWorld struct {
	*world
	clock *keystest.Clock
	phone *keystest.Authenticator
	token credential.Secret
	n     int // of what was tried on it
}

// attempt is a call of which bytes get lost.
type attempt struct {
	action string // its name in the audit log
	object string // and its object there
	call   func(ctx context.Context, c keys.Service) error
	// settled looks at what became of it, once it was done or was not.
	settled func(done bool) error
}

// cutCase makes attempts, each on something of its own.
type cutCase struct {
	name       string
	repeatable bool // a lost answer is made good by the client itself (R27)
	begin      func(t testing.TB, w *cutWorld, name string) attempt
}

// TestR27_CutAtEachByte loses every part of what a client and a server say to each other: the connection breaks after each
// byte of the request, and after each byte of the answer when the request was carried out. What may be repeated ends in the
// answer of the one change that was made; of the rest the client says outcome_unknown (R32), and nothing is done twice (R11).
//
// Where KEYCTL_TORTURE is set every byte of every call is cut; else every byte of the answers to create, prove and roll, and
// some of everything else; with -short, some of all.
func TestR27_CutAtEachByte(t *testing.T) {
	t.Parallel()
	worlds := make([]*cutWorld, cutWorlds)
	var setUp sync.WaitGroup
	for i := range worlds {
		setUp.Go(func() {
			clock := keystest.NewClock()
			w := &cutWorld{world: newWorld(t, clock.Env()), clock: clock}
			w.phone = keystest.Enroll(t, w.owner, clock)
			w.token = w.world.token(t, "")
			worlds[i] = w
		})
	}
	setUp.Wait()
	thorough := os.Getenv("KEYCTL_TORTURE") != ""
	for i, c := range cutCases {
		t.Run(c.name, func(t *testing.T) {
			inRequest, inAnswer := 29, 13
			switch {
			case thorough:
				inRequest, inAnswer = 1, 1
			case testing.Short():
				inRequest, inAnswer = 97, 41
			case i < everyByte:
				inAnswer = 1
			}
			request, answer := c.measure(t, worlds[0])
			jobs := []cut{{request, whole}, {whole, answer}}
			for n := 0; n < answer; n += inAnswer {
				jobs = append(jobs, cut{whole, n})
			}
			for n := 0; n < request; n += inRequest {
				jobs = append(jobs, cut{n, whole})
			}
			var done, unknown atomic.Int64
			queue := make(chan cut, len(jobs))
			for _, job := range jobs {
				queue <- job
			}
			close(queue)
			var all sync.WaitGroup
			for _, w := range worlds {
				all.Go(func() {
					for job := range queue {
						err := c.run(t, w, job)
						switch {
						case err == nil:
							done.Add(1)
						case fault.Is(err, fault.OutcomeUnknown) && !c.repeatable:
							unknown.Add(1)
						default:
							t.Errorf("cut after %+v: %v", job, err)
							return
						}
					}
				})
			}
			all.Wait()
			t.Logf("%d bytes asked, %d answered: %d cuts, %d done, %d outcome_unknown", request, answer, len(jobs), done.Load(), unknown.Load())
		})
	}
}

// measure tells how long request and answer are.
func (c cutCase) measure(t *testing.T, w *cutWorld) (request, answer int) {
	w.n++
	a := c.begin(t, w, fmt.Sprintf("%s-%05d", c.name, w.n))
	proxy := newFaultProxy(t, strings.TrimPrefix(w.url, "http://"), cut{whole, whole})
	client := w.clientAt(t, proxy.url(), w.token)
	err := a.call(t.Context(), client)
	client.Close()
	proxy.close()
	if err = errors.Join(err, a.settled(true)); err != nil {
		t.Fatal(err)
	}
	return int(proxy.requested.Load()), int(proxy.answered.Load())
}

// run makes one attempt with one cut, and looks what came of it. The error is the call's, unless that was not the truth.
func (c cutCase) run(t *testing.T, w *cutWorld, job cut) error {
	w.n++
	a := c.begin(t, w, fmt.Sprintf("%s-%05d", c.name, w.n))
	proxy := newFaultProxy(t, strings.TrimPrefix(w.url, "http://"), job)
	client := w.clientAt(t, proxy.url(), w.token)
	err := a.call(t.Context(), client)
	client.Close()
	proxy.close()
	records, auditErr := w.owner.AuditRecords(t.Context(), keys.AuditFilter{Action: a.action, Object: a.object, Outcome: "ok"})
	if auditErr != nil {
		return auditErr
	}
	times := len(records.Items)
	switch {
	case times > 1:
		return fmt.Errorf("%s was done %d times", a.action, times)
	case err == nil && times == 0:
		return fmt.Errorf("%s was not done", a.action)
	case err != nil && !fault.Is(err, fault.OutcomeUnknown):
		return fmt.Errorf("%s, done %d times: %w", a.action, times, err)
	}
	if wrong := a.settled(times == 1); wrong != nil {
		return fmt.Errorf("after %s = %v: %w", a.action, err, wrong)
	}
	return err
}

// everyByte is how many cases from the first on always have their answers cut at every byte.
const everyByte = 3

var cutCases = []cutCase{
	{"create", true, func(t testing.TB, w *cutWorld, name string) attempt {
		drawn := keystest.Draw(t)
		var pending keys.Pending
		return attempt{"keys.create", name, func(ctx context.Context, c keys.Service) (err error) {
			pending, err = c.CreateKey(ctx, keys.NewKey{Name: name, Offer: drawn.Offer})
			return err
		}, func(bool) error {
			_, err := w.owner.Prove(t.Context(), drawn.AccessKeyID, drawn.Proof(pending))
			return errors.Join(err, w.letsIn(t, drawn, "current"))
		}}
	}},
	{"prove", true, func(t testing.TB, w *cutWorld, name string) attempt {
		drawn, pending := w.create(t, name)
		return attempt{"keys.activate", name, func(ctx context.Context, c keys.Service) error {
			proven, err := c.Prove(ctx, drawn.AccessKeyID, drawn.Proof(pending))
			if err == nil && *proven.Key.AccessKeyID != drawn.AccessKeyID {
				return errors.New("another credential was proven")
			}
			return err
		}, func(bool) error { return w.letsIn(t, drawn, "current") }}
	}},
	{"roll", true, func(t testing.TB, w *cutWorld, name string) attempt {
		old := w.active(t, name)
		drawn, code := keystest.Draw(t), w.phone.Next()
		var pending keys.Pending
		return attempt{"keys.roll", name, func(ctx context.Context, c keys.Service) (err error) {
			pending, err = c.Roll(ctx, keys.RollRequest{Key: name, Terms: keys.RollTerms{Grace: keys.Grace{For: time.Hour}}, Offer: drawn.Offer, Code: code})
			return err
		}, func(bool) error {
			_, err := w.owner.Prove(t.Context(), drawn.AccessKeyID, drawn.Proof(pending))
			return errors.Join(err, w.letsIn(t, drawn, "current"), w.letsIn(t, old, "grace"), w.spent(t, code))
		}}
	}},
	{"withdraw", true, func(t testing.TB, w *cutWorld, name string) attempt {
		drawn, _ := w.create(t, name)
		return attempt{"keys.withdraw", name, func(ctx context.Context, c keys.Service) error {
			return c.Withdraw(ctx, drawn.AccessKeyID)
		}, func(bool) error { return w.keyIs(t, name, "") }}
	}},
	{"disable", true, func(t testing.TB, w *cutWorld, name string) attempt {
		w.active(t, name)
		return attempt{"keys.disable", name, func(ctx context.Context, c keys.Service) error {
			_, err := c.DisableKey(ctx, name, false)
			return err
		}, func(bool) error { return w.keyIs(t, name, keys.KeyDisabled) }}
	}},
	{"token", true, func(t testing.TB, w *cutWorld, name string) attempt {
		token, id := w.drawToken(t)
		return attempt{"tokens.create", id, func(ctx context.Context, c keys.Service) error {
			made, err := c.CreateToken(ctx, keys.NewToken{Token: token, Description: name})
			if err == nil && made.ID != id {
				return errors.New("another token was made")
			}
			return err
		}, func(bool) error {
			admitted, err := w.owner.Admit(t.Context(), token, here)
			if err == nil && admitted.TokenID() != id {
				return errors.New("the token is another one")
			}
			return err
		}}
	}},
	{"revoke", true, func(t testing.TB, w *cutWorld, name string) attempt {
		token, id := w.drawToken(t)
		_, err := w.owner.CreateToken(t.Context(), keys.NewToken{Token: token, Description: name})
		return attempt{"tokens.revoke", id, func(ctx context.Context, c keys.Service) error {
			_, revoke := c.RevokeToken(ctx, id)
			return errors.Join(err, revoke)
		}, func(bool) error { return w.keptOut(t, token) }}
	}},
	{"delete", true, func(t testing.TB, w *cutWorld, name string) attempt {
		drawn := w.active(t, name)
		return attempt{"keys.delete", name, func(ctx context.Context, c keys.Service) error {
			_, err := c.DeleteKey(ctx, name)
			return err
		}, func(bool) error { return errors.Join(w.keyIs(t, name, ""), w.letsIn(t, drawn, "")) }}
	}},
	{"finish", true, func(t testing.TB, w *cutWorld, name string) attempt {
		old, drawn := w.rolled(t, name)
		return attempt{"rolls.finish", name, func(ctx context.Context, c keys.Service) error {
			_, err := c.FinishRoll(ctx, name)
			return err
		}, func(bool) error { return errors.Join(w.letsIn(t, drawn, "current"), w.letsIn(t, old, "")) }}
	}},
	{"first-key", true, func(t testing.TB, w *cutWorld, name string) attempt {
		drawn := keystest.Draw(t)
		var pending *keys.Pending
		return attempt{"datasets.create", name, func(ctx context.Context, c keys.Service) (err error) {
			_, pending, err = c.CreateDataset(ctx, keys.NewDataset{Name: name, Type: keys.Unstructured, FirstKey: &drawn.Offer})
			return err
		}, func(bool) error {
			_, err := w.owner.Prove(t.Context(), drawn.AccessKeyID, drawn.Proof(*pending))
			return errors.Join(err, w.letsIn(t, drawn, "current"))
		}}
	}},
	{"dataset", false, func(t testing.TB, w *cutWorld, name string) attempt {
		return attempt{"datasets.create", name, func(ctx context.Context, c keys.Service) error {
			_, _, err := c.CreateDataset(ctx, keys.NewDataset{Name: name, Type: keys.Unstructured})
			return err
		}, func(done bool) error {
			_, err := w.owner.Dataset(t.Context(), name)
			return wantThere(err, done)
		}}
	}},
	{"operator", false, func(t testing.TB, w *cutWorld, name string) attempt {
		return attempt{"operators.create", name, func(ctx context.Context, c keys.Service) error {
			_, err := c.CreateOperator(ctx, keys.NewOperator{Name: name, Role: access.Auditor})
			return err
		}, func(done bool) error {
			_, err := w.owner.Operator(t.Context(), name)
			return wantThere(err, done)
		}}
	}},
	{"edit", false, func(t testing.TB, w *cutWorld, name string) attempt {
		w.active(t, name)
		text := "edited"
		return attempt{"keys.edit", name, func(ctx context.Context, c keys.Service) error {
			_, err := c.EditKey(ctx, name, keys.KeyEdit{Description: &text})
			return err
		}, func(done bool) error {
			k, err := w.owner.Key(t.Context(), name)
			if err == nil && (k.Description == text) != done {
				return fmt.Errorf("the description is %q, done: %v", k.Description, done)
			}
			return err
		}}
	}},
	{"enable", false, func(t testing.TB, w *cutWorld, name string) attempt {
		w.active(t, name)
		_, err := w.owner.DisableKey(t.Context(), name, false)
		return attempt{"keys.enable", name, func(ctx context.Context, c keys.Service) error {
			_, enable := c.EnableKey(ctx, name)
			return cmpOr(err, enable)
		}, func(done bool) error {
			return w.keyIs(t, name, map[bool]keys.KeyState{true: keys.KeyActive, false: keys.KeyDisabled}[done])
		}}
	}},
	{"extend", false, func(t testing.TB, w *cutWorld, name string) attempt {
		w.rolled(t, name)
		code := w.phone.Next()
		at := keys.Instant(w.clock.Now().Add(48 * time.Hour))
		return attempt{"rolls.extend", name, func(ctx context.Context, c keys.Service) error {
			_, err := c.ExtendRoll(ctx, name, keys.Grace{At: at}, code)
			return err
		}, func(done bool) error {
			roll, err := w.owner.RollOf(t.Context(), name)
			if err == nil && roll.Previous.Until.Equal(at) != done {
				return fmt.Errorf("the old credential works until %v, done: %v", roll.Previous.Until, done)
			}
			if done {
				err = errors.Join(err, w.spent(t, code))
			}
			return err
		}}
	}},
	{"cancel", false, func(t testing.TB, w *cutWorld, name string) attempt {
		old, drawn := w.rolled(t, name)
		code := w.phone.Next()
		return attempt{"rolls.cancel", name, func(ctx context.Context, c keys.Service) error {
			_, err := c.CancelRoll(ctx, name, code)
			return err
		}, func(done bool) error {
			if !done {
				return errors.Join(w.letsIn(t, drawn, "current"), w.letsIn(t, old, "grace"))
			}
			return errors.Join(w.letsIn(t, drawn, ""), w.letsIn(t, old, "current"), w.spent(t, code))
		}}
	}},
	{"rotate", false, func(t testing.TB, w *cutWorld, name string) attempt {
		_, err := w.owner.CreatePrimaryKey(t.Context(), name, "")
		return attempt{"primary-keys.rotate", name, func(ctx context.Context, c keys.Service) error {
			_, rotate := c.RotatePrimaryKey(ctx, name)
			return cmpOr(err, rotate)
		}, func(done bool) error {
			k, err := w.owner.PrimaryKey(t.Context(), name)
			if err == nil && (len(k.Versions) == 2) != done {
				return fmt.Errorf("there are %d versions, done: %v", len(k.Versions), done)
			}
			return err
		}}
	}},
}

// cmpOr is the first of the errors that is one.
func cmpOr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func wantThere(err error, there bool) error {
	if there == (err == nil) && (there || fault.Is(err, fault.NotFound)) {
		return nil
	}
	return fmt.Errorf("looking for it = %v, done: %v", err, there)
}

// create makes a pending key.
func (w *cutWorld) create(t testing.TB, name string) (keystest.Drawn, keys.Pending) {
	drawn := keystest.Draw(t)
	pending, err := w.owner.CreateKey(t.Context(), keys.NewKey{Name: name, Offer: drawn.Offer})
	if err != nil {
		t.Errorf("CreateKey(%q) = %v", name, err)
	}
	return drawn, pending
}

// active makes an active key.
func (w *cutWorld) active(t testing.TB, name string) keystest.Drawn {
	drawn, pending := w.create(t, name)
	if _, err := w.owner.Prove(t.Context(), drawn.AccessKeyID, drawn.Proof(pending)); err != nil {
		t.Errorf("Prove(%q) = %v", name, err)
	}
	return drawn
}

// rolled makes a key whose first credential is in grace.
func (w *cutWorld) rolled(t testing.TB, name string) (old, drawn keystest.Drawn) {
	old, drawn = w.active(t, name), keystest.Draw(t)
	pending, err := w.owner.Roll(t.Context(), keys.RollRequest{
		Key: name, Terms: keys.RollTerms{Grace: keys.Grace{For: 24 * time.Hour}}, Offer: drawn.Offer, Code: w.phone.Next(),
	})
	if err == nil {
		_, err = w.owner.Prove(t.Context(), drawn.AccessKeyID, drawn.Proof(pending))
	}
	if err != nil {
		t.Errorf("rolling %q: %v", name, err)
	}
	return old, drawn
}

func (w *cutWorld) drawToken(t testing.TB) (credential.Secret, string) {
	token, err := credential.DrawOperatorToken(rand.Reader)
	id := ""
	if err == nil {
		id, err = credential.OperatorTokenID(token)
	}
	if err != nil {
		t.Errorf("drawing a token: %v", err)
	}
	return token, id
}

// letsIn checks whether a credential works, and as which; empty is not at all.
func (w *cutWorld) letsIn(t testing.TB, d keystest.Drawn, as string) error {
	verdict, err := w.owner.Verify(t.Context(), d.Question())
	switch {
	case err != nil:
		return err
	case as == "" && !verdict.Allowed, as != "" && verdict.Allowed && *verdict.Credential == as:
		return nil
	}
	return fmt.Errorf("the credential %s is %s, want %q", d.AccessKeyID, verdict.Reason, as)
}

// spent checks that a code does not work a second time.
func (w *cutWorld) spent(t testing.TB, code string) error {
	if _, err := w.owner.NewRecoveryCodes(t.Context(), code); !fault.Is(err, fault.OTPUsed) {
		return fmt.Errorf("the code a second time = %v, want otp_used", err)
	}
	return nil
}

// keyIs checks the state of a key; empty is that there is none.
func (w *cutWorld) keyIs(t testing.TB, name string, state keys.KeyState) error {
	k, err := w.owner.Key(t.Context(), name)
	if state == "" {
		return wantThere(err, false)
	}
	if err == nil && k.State != state {
		return fmt.Errorf("the key is %s, want %s", k.State, state)
	}
	return err
}

func (w *cutWorld) keptOut(t testing.TB, token credential.Secret) error {
	if _, err := w.owner.Admit(t.Context(), token, here); !fault.Is(err, fault.Unauthenticated) {
		return fmt.Errorf("Admit() = %v, want unauthenticated", err)
	}
	return nil
}
