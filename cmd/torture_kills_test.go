//go:build unix

package cmd

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// entry is the journal's page for one key.
type entry struct {
	create, disable *victim // what was tried on it
	created         bool    // acknowledged
	disabled        bool    // acknowledged
}

// createAndDisable kills creates and disables of many processes that work on one store at once.
func (tt *torture) createAndDisable(kills int) {
	t := tt.t
	w := newWorld(t)
	w.ok("init")
	for _, dir := range []string{"out", "hand"} {
		if err := os.Mkdir(w.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	held := holders{}
	journal := map[string]*entry{}
	for _, name := range []string{"paced-1", "paced-2"} {
		tt.take(held, &victim{w: w, text: tt.measure(w, "create", "keys", "create", name)}, w.path("hand"))
		journal[name] = &entry{created: true}
	}
	tt.measure(w, "disable", "keys", "disable", "paced-1", "--yes")
	journal["paced-1"].disabled = true

	killed := func() int { return tt.killed["create"] + tt.killed["disable"] }
	for batch := 0; killed() < kills && batch < kills; batch++ {
		var victims []*victim
		for i := range min(24, kills-killed()) {
			name := fmt.Sprintf("key-%d-%d", batch, i)
			v := &victim{w: w, what: "create", args: []string{"keys", "create", name, "--if-not-exists"}}
			if i%2 == 1 {
				v.out = filepath.Join("out", name)
				v.args = append(v.args, "--out", v.out)
			}
			journal[name] = &entry{create: v}
			victims = append(victims, v)
		}
		for _, e := range journal {
			// A third as many disables, of keys that are surely there.
			if e.created && !e.disabled && e.disable == nil && len(victims) < 32 && e.create != nil {
				e.disable = &victim{w: w, what: "disable", args: []string{"keys", "disable", e.create.args[2], "--yes"}}
				victims = append(victims, e.disable)
			}
		}
		for _, v := range victims {
			tt.aim(v)
		}
		together(victims, tt.run)
		for _, v := range victims {
			tt.take(held, v, w.path("hand"))
		}
		tt.acknowledge(journal)
		tt.check(w, held, killed(), func(keys map[string]listedKey) {
			tt.judge(journal, keys)
			for _, v := range victims {
				if v.killed {
					tt.found[v.what+" "+cmp.Or(keys[v.args[2]].State, "nothing")]++
				}
			}
		})

		// What a killed process left is in nobody's way: the same command succeeds.
		together(victims, func(v *victim) {
			if !v.killed {
				return
			}
			r := w.run(v.args...)
			r.wants(t, exitOK, v.args...)
			v.acked, v.text = r.status == exitOK, r.out
		})
		for _, v := range victims {
			tt.take(held, v, w.path("hand"))
		}
		tt.acknowledge(journal)
	}
	tt.check(w, held, killed(), func(keys map[string]listedKey) { tt.judge(journal, keys) })
}

// acknowledge writes down what the processes reported as done.
func (tt *torture) acknowledge(journal map[string]*entry) {
	for _, e := range journal {
		e.created = e.created || e.create != nil && e.create.acked
		e.disabled = e.disabled || e.disable != nil && e.disable.acked
	}
}

// judge compares the store with the journal.
func (tt *torture) judge(journal map[string]*entry, keys map[string]listedKey) {
	tt.t.Helper()
	for name, e := range journal {
		k, there := keys[name]
		switch {
		case e.created && (!there || k.State == "pending"), e.disabled && k.State != "disabled":
			tt.lost++
			tt.t.Errorf("the key %s is %q; acknowledged: create %v, disable %v", name, k.State, e.created, e.disabled)
		case k.State == "disabled" && !e.disabled && e.disable == nil:
			tt.halves++
			tt.t.Errorf("the key %s is disabled, and nobody asked for that", name)
		}
	}
	for name, k := range keys {
		if journal[name] == nil || k.State != "active" && k.State != "disabled" && k.State != "pending" {
			tt.halves++
			tt.t.Errorf("the key %s is %s", name, k.State)
		}
	}
}

// roll kills rolls. A code works once, so each victim rolls on a copy of one prepared store, with the same authenticator.
func (tt *torture) roll(kills int) {
	t := tt.t
	origin := newWorld(t)
	phone := origin.enrol()
	origin.write("old.env", origin.ok("keys", "create", "web-01"))
	old := origin.keys()["web-01"].AccessKeyID
	paced := origin.copy(t)
	tt.measure(paced, "roll", "roll", "web-01", "--expire", "24h", "--otp", phone.code())

	for batch := 0; tt.killed["roll"] < kills && batch < kills; batch++ {
		var victims []*victim
		code := phone.now()
		for i := range min(12, kills-tt.killed["roll"]) {
			v := &victim{w: origin.copy(t), what: "roll", args: []string{"roll", "web-01", "--expire", "24h", "--otp", code}}
			switch i % 3 {
			case 1:
				v.out = filepath.Join("out", "new.env")
				v.args = append(v.args, "--out", v.out)
			case 2:
				v.out = "old.env"
				v.args = append(v.args, "--out", v.out, "--replace")
			}
			tt.aim(v)
			victims = append(victims, v)
		}
		together(victims, tt.run)
		for _, v := range victims {
			tt.settleRoll(v, old, phone)
		}
	}
}

// settleRoll looks at what a roll left, and repeats it if it did not happen.
func (tt *torture) settleRoll(v *victim, old string, phone *authenticator) {
	t, w := tt.t, v.w
	t.Helper()
	hand := w.path("out")
	oldText := w.read(w.path("old.env"))
	held := holders{}
	tt.take(held, v, hand)
	if id, err := parseText(oldText); err == nil && id == old {
		held[old] = w.path("old.env")
	}
	var k listedKey
	tt.check(w, held, 1, func(keys map[string]listedKey) {
		k = keys["web-01"]
		rolled := k.AccessKeyID != old
		if v.killed {
			tt.found["roll "+map[bool]string{true: "proven", false: "not proven"}[rolled]]++
		}
		switch {
		case v.acked && !rolled:
			tt.lost++
			t.Errorf("an acknowledged roll is lost: the key is at %s still", old)
		case k.State != "active", rolled != (k.Generation == 2), len(keys) != 1:
			tt.halves++
			t.Errorf("after a killed roll the key is %+v", k)
		}
	})
	// The old credential works until a day after the proof, whatever became of the roll.
	w.run("verify", old).wants(t, exitOK, "verify", old)
	if k.AccessKeyID != old {
		return
	}
	// The code of the killed roll may be spent; then the next one does.
	r := w.run(v.args...)
	if r.status == exitSecondFactor {
		again := append([]string{}, v.args...)
		for i := range again {
			if again[i] == "--otp" {
				again[i+1] = phone.next()
			}
		}
		r = w.run(again...)
	}
	r.wants(t, exitOK, v.args...)
	v.text = r.out
	tt.take(held, v, hand)
	tt.check(w, held, 1, func(keys map[string]listedKey) {
		if keys["web-01"].AccessKeyID == old {
			tt.lost++
			t.Error("an acknowledged roll is lost")
		}
	})
}

// next is the code after the one that now gives.
func (p *authenticator) next() string {
	next := *p
	return next.code()
}

// copy makes another world with the same store.
func (w *world) copy(t *testing.T) *world {
	t.Helper()
	made := newWorld(t)
	if err := os.CopyFS(made.path("home"), os.DirFS(w.path("home"))); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{made.store(), made.masterKey()} {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	made.write("old.env", w.read(w.path("old.env")))
	if err := os.Mkdir(made.path("out"), 0o700); err != nil {
		t.Fatal(err)
	}
	return made
}

// createFirst kills the first command of all, which makes master key and store as well.
func (tt *torture) createFirst(kills int) {
	t := tt.t
	tt.measure(newWorld(t), "first", "keys", "create", "web-01")
	for try := 0; tt.killed["first"] < kills && try < 10*kills; try++ {
		w := newWorld(t)
		if err := os.Mkdir(w.path("out"), 0o700); err != nil {
			t.Fatal(err)
		}
		v := &victim{w: w, what: "first", out: "out/web-01", args: []string{"keys", "create", "web-01", "--if-not-exists", "--out", "out/web-01"}}
		tt.aim(v)
		tt.run(v)
		w.ok(v.args...)
		held := holders{}
		tt.take(held, v, w.path("out"))
		tt.check(w, held, 2, func(keys map[string]listedKey) { // two: one for the store, one for the credential
			if keys["web-01"].State != "active" {
				tt.lost++
				t.Errorf("the first key is %q", keys["web-01"].State)
			}
		})
	}
}
