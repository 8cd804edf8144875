package keys_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/store"
)

// TestStateTable plays random operations, late and repeated ones among them, against keys of every state, and compares
// every answer, every key and every verdict with the model's. Run it longer with -rapid.checks=1000 -rapid.steps=100.
func TestStateTable(t *testing.T) {
	p := newPlace(t)
	db, err := store.Open(t.Context(), p.path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := p.on(t, db)
	auth := keystest.Enroll(t, l, p.clock)
	for _, name := range []string{"a", "b"} {
		newDataset(t, l, name)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(p.path)
	if err != nil {
		t.Fatal(err)
	}
	check := 0
	rapid.Check(t, func(rt *rapid.T) {
		check++
		fresh := *p
		fresh.path = filepath.Join(t.TempDir(), fmt.Sprintf("%d.db", check))
		if err := os.WriteFile(fresh.path, image, 0o600); err != nil {
			rt.Fatal(err)
		}
		p.clock.Set(keystest.Morning.Add(time.Hour))
		play := &game{t: t, place: &fresh, auth: auth, model: &keystest.Model{Now: p.clock.Now(), By: "alex"}}
		play.reopen(rt)
		defer func() {
			_ = play.db.Close()
			_ = os.Remove(fresh.path)
		}()
		rt.Repeat(play.moves())
		play.reopen(rt)
		play.compare(rt)
		if report, err := play.VerifyAudit(t.Context(), ""); err != nil || !report.OK {
			rt.Fatalf("VerifyAudit() = %+v, %v", report, err)
		}
	})
}

// game is a Service and the model, side by side.
type game struct {
	*keys.Local
	t     *testing.T
	db    *store.DB
	place *place
	auth  *keystest.Authenticator
	model *keystest.Model
	made  []*keystest.ModelCredential // every credential ever
}

// reopen goes on in a new process.
func (g *game) reopen(rt *rapid.T) {
	if g.db != nil {
		if err := g.db.Close(); err != nil {
			rt.Fatalf("Close() = %v", err)
		}
	}
	var err error
	if g.db, err = store.Open(g.t.Context(), g.place.path, store.Options{}); err != nil {
		rt.Fatalf("Open() = %v", err)
	}
	if g.Local, err = keys.Open(g.t.Context(), g.db, g.place.master, g.place.clock.Env()); err != nil {
		rt.Fatalf("Open() = %v", err)
	}
}

// want compares an answer with the model's.
func (g *game) want(rt *rapid.T, what string, err error, code fault.Code) {
	if fault.CodeOf(err) != code {
		rt.Fatalf("%s = %q (%v), the model says %q", what, fault.CodeOf(err), err, code)
	}
}

func (g *game) tick(to time.Time) {
	g.place.clock.Set(to)
	g.model.Tick(to)
}

// code is a code that was not used yet. Asking for it takes half a minute.
func (g *game) code() string {
	code := g.auth.Next()
	g.model.Tick(g.place.clock.Now())
	return code
}

func (g *game) credential(rt *rapid.T) *keystest.ModelCredential {
	if len(g.made) == 0 {
		rt.Skip("no credential yet")
	}
	return g.made[len(g.made)-1-rapid.IntRange(0, len(g.made)-1).Draw(rt, "credential, from the last")]
}

// key prefers keys that are not deleted: of those there is much more to say.
func (g *game) key(rt *rapid.T) *keystest.ModelKey {
	some := g.model.Keys
	if rapid.IntRange(0, 9).Draw(rt, "which") > 0 {
		some = slices.DeleteFunc(slices.Clone(some), func(k *keystest.ModelKey) bool { return k.Deleted })
	}
	if len(some) == 0 {
		rt.Skip("no key yet")
	}
	return some[len(some)-1-rapid.IntRange(0, len(some)-1).Draw(rt, "key, from the last")]
}

func (g *game) duration(rt *rapid.T, some ...time.Duration) time.Duration {
	return rapid.SampledFrom(some).Draw(rt, "duration")
}

const hour, days = time.Hour, 24 * time.Hour

func (g *game) moves() map[string]func(*rapid.T) {
	ctx := g.t.Context()
	return map[string]func(*rapid.T){
		"": g.compare,
		"create": func(rt *rapid.T) {
			d := keystest.Draw(g.t)
			r := keys.NewKey{Name: rapid.SampledFrom([]string{"w", "x", "y", "z"}).Draw(rt, "name"), Offer: d.Offer}
			if life := g.duration(rt, 0, 0, 5*time.Minute, hour, 40*days); life > 0 {
				r.ExpiresAt = g.model.Now.Add(life)
			}
			if name := rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "dataset"); name != "" {
				r.Datasets = []string{name}
			}
			c := &keystest.ModelCredential{Drawn: d, Create: &r}
			code := g.model.Create(c)
			pending, err := g.CreateKey(ctx, r)
			g.want(rt, "CreateKey", err, code)
			if code == "" {
				c.Pending, c.Key.ID = pending, pending.KeyID
				g.made = append(g.made, c)
			}
			if rapid.Bool().Draw(rt, "prove at once") && code == "" {
				g.prove(rt, c)
			}
		},
		"prove": func(rt *rapid.T) { g.prove(rt, g.credential(rt)) },
		"prove wrongly": func(rt *rapid.T) {
			c := g.credential(rt)
			code := g.model.Attempt(c)
			if code == "" {
				code = fault.Unauthenticated
			}
			_, err := g.Prove(ctx, c.AccessKeyID, make([]byte, 32))
			g.want(rt, "Prove wrongly", err, code)
		},
		"withdraw": func(rt *rapid.T) {
			c := g.credential(rt)
			g.want(rt, "Withdraw", g.Withdraw(ctx, c.AccessKeyID), g.model.Withdraw(c))
		},
		"repeat": func(rt *rapid.T) {
			c := g.credential(rt)
			var again keys.Pending
			var err error
			if c.Create != nil {
				again, err = g.CreateKey(ctx, *c.Create)
			} else {
				again, err = g.Roll(ctx, *c.Roll)
			}
			code := g.model.Attempt(c)
			g.want(rt, "a repeated request", err, code)
			if code == "" && (again.KeyID != c.Key.ID || again.Proven == c.Proven.IsZero() || again.Generation != c.Generation) {
				rt.Fatalf("a repeated request = %+v", again)
			}
		},
		"roll": func(rt *rapid.T) {
			k, d := g.key(rt), keystest.Draw(g.t)
			r := keys.RollRequest{Key: k.ID, Offer: d.Offer, Code: g.code()}
			r.Terms.Grace.For = g.duration(rt, 0, hour, days, 30*days)
			r.Terms.FinishPrevious = rapid.Bool().Draw(rt, "finish previous")
			c := &keystest.ModelCredential{Drawn: d, Roll: &r}
			code := g.model.Roll(k, c)
			pending, err := g.Roll(ctx, r)
			g.want(rt, "Roll", err, code)
			if code == "" {
				c.Pending = pending
				g.made = append(g.made, c)
				if pending.Generation != c.Generation {
					rt.Fatalf("Roll gives generation %d, the model says %d", pending.Generation, c.Generation)
				}
				if rapid.Bool().Draw(rt, "prove at once") {
					g.prove(rt, c)
				}
			}
		},
		"extend": func(rt *rapid.T) {
			k, code, d := g.key(rt), g.code(), g.duration(rt, hour, 10*days, 30*days)
			_, err := g.ExtendRoll(ctx, k.ID, keys.Grace{For: d}, code)
			g.want(rt, "ExtendRoll", err, g.model.Extend(k, d))
		},
		"finish": func(rt *rapid.T) {
			k := g.key(rt)
			_, err := g.FinishRoll(ctx, k.ID)
			g.want(rt, "FinishRoll", err, g.model.Finish(k))
		},
		"cancel": func(rt *rapid.T) {
			k, code := g.key(rt), g.code()
			_, err := g.CancelRoll(ctx, k.ID, code)
			g.want(rt, "CancelRoll", err, g.model.Cancel(k))
		},
		"disable": func(rt *rapid.T) {
			k, compromised := g.key(rt), rapid.IntRange(0, 3).Draw(rt, "compromised") == 0
			_, err := g.DisableKey(ctx, k.ID, compromised)
			g.want(rt, "DisableKey", err, g.model.Disable(k, compromised))
		},
		"enable": func(rt *rapid.T) {
			k := g.key(rt)
			_, err := g.EnableKey(ctx, k.ID)
			g.want(rt, "EnableKey", err, g.model.Enable(k))
		},
		"delete": func(rt *rapid.T) {
			k := g.key(rt)
			_, err := g.DeleteKey(ctx, k.ID)
			g.want(rt, "DeleteKey", err, "")
			k.Delete()
		},
		"edit expiry": func(rt *rapid.T) {
			k, at := g.key(rt), time.Time{}
			if life := g.duration(rt, 0, time.Microsecond, time.Minute, hour, 40*days); life > 0 {
				at = g.model.Now.Add(life)
			}
			_, err := g.EditKey(ctx, k.ID, keys.KeyEdit{ExpiresAt: &at})
			g.want(rt, "EditKey", err, g.model.SetExpiry(k, at))
		},
		"attach": func(rt *rapid.T) {
			k, name := g.key(rt), rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "dataset")
			_, err := g.AttachKeys(ctx, name, []string{k.ID}, keys.FullGrant)
			g.want(rt, "AttachKeys", err, g.model.Attach(k, name))
		},
		"detach": func(rt *rapid.T) {
			k, name := g.key(rt), rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "dataset")
			_, err := g.DetachKeys(ctx, name, []string{k.ID})
			g.want(rt, "DetachKeys", err, g.model.Detach(k, name))
		},
		"wait": func(rt *rapid.T) {
			g.tick(g.model.Now.Add(g.duration(rt, time.Second, 5*time.Minute, keys.PendingFor, hour, days, 31*days)))
		},
		"wait for a limit": func(rt *rapid.T) {
			limits := g.limits()
			if len(limits) == 0 {
				rt.Skip("nothing has a limit")
			}
			at := rapid.SampledFrom(limits).Draw(rt, "limit")
			at = at.Add(time.Duration(rapid.IntRange(-1, 1).Draw(rt, "beside it")) * time.Microsecond)
			if at.After(g.model.Now) {
				g.tick(at)
			}
		},
	}
}

// limits are the instants to come at which something ends.
func (g *game) limits() (limits []time.Time) {
	for _, k := range g.model.Keys {
		limits = append(limits, k.Expires)
		for _, c := range k.Credentials {
			limits = append(limits, c.Grace)
			if c.Proven.IsZero() {
				limits = append(limits, c.Pending.Until)
			}
			if !c.Retired.IsZero() {
				limits = append(limits, c.Retired.Add(keys.RetiredFor))
			}
		}
	}
	return slices.DeleteFunc(limits, func(at time.Time) bool { return !at.After(g.model.Now) })
}

func (g *game) prove(rt *rapid.T, c *keystest.ModelCredential) {
	code := g.model.Prove(c)
	proven, err := g.Prove(g.t.Context(), c.AccessKeyID, c.Proof(c.Pending))
	g.want(rt, "Prove", err, code)
	if code != "" {
		return
	}
	g.same(rt, "what the proof answers about the old credential", proven.Previous, c.Previous)
	g.same(rt, "what the proof answers about the key", proven.Key, g.model.View(c.Key))
}

func (g *game) same(rt *rapid.T, what string, got, want any) {
	if d := keystest.Difference(got, want); d != "" {
		rt.Fatalf("%s (-model +got):\n%s", what, d)
	}
}

// compare looks at everything: all keys, all rolls, and the verdict about every credential there ever was.
func (g *game) compare(rt *rapid.T) {
	ctx := g.t.Context()
	page, err := g.Keys(ctx, keys.KeyFilter{States: keys.KeyStates()})
	if err != nil {
		rt.Fatalf("Keys() = %v", err)
	}
	want := g.model.Listed()
	slices.SortFunc(want, func(a, b keys.KeyView) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	g.same(rt, "the keys", page.Items, want)
	rolls, err := g.Rolls(ctx, "", 0)
	if err != nil {
		rt.Fatalf("Rolls() = %v", err)
	}
	var rolling, wantRolling []string
	for _, r := range rolls.Items {
		rolling = append(rolling, r.Name)
	}
	for _, k := range want {
		if k.Grace != nil {
			wantRolling = append(wantRolling, k.Name)
		}
	}
	g.same(rt, "the rolls", rolling, wantRolling)
	for _, c := range g.made {
		v, err := g.Verify(ctx, c.Question())
		if want := g.model.Reason(c); err != nil || v.Reason != want || v.Allowed != (want == keys.ReasonOK) {
			rt.Fatalf("the credential %s of generation %d of %s is %q, %v; the model says %q", c.AccessKeyID, c.Generation, c.Key.Name, v.Reason, err, want)
		}
	}
}
