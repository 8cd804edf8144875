package keys

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
)

// recentUse is how far back a use of a key counts when an edit would shut its address out.
const recentUse = 7 * 24 * time.Hour

// Key implements Service.
func (l *Local) Key(ctx context.Context, ref string) (KeyView, error) {
	var view KeyView
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		rec, err := findKey(tx, ref, now)
		view = rec.View(now)
		return err
	})
	return view, err
}

// ExistingKey implements Service.
func (l *Local) ExistingKey(ctx context.Context, request NewKey) (KeyView, []string, error) {
	if err := ValidateName("key", request.Name); err != nil {
		return KeyView{}, nil, err
	}
	var view KeyView
	var differences []string
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		rec, err := tx.KeyByName(request.Name)
		if err != nil {
			return err
		}
		view = rec.View(now)
		switch view.State {
		case KeyActive:
			differences = differ(view, request)
			return nil
		case KeyPending:
			return fault.New(fault.NotFound, "the key %q is only pending", request.Name)
		}
		return stateError(rec.Key, view.State)
	})
	return view, differences, err
}

// differ names what an existing key has otherwise than a request asks for.
func differ(view KeyView, request NewKey) []string {
	var differences []string
	if !slices.Equal(sorted(view.IPRanges.Strings()), sorted(request.IPRanges.Strings())) {
		differences = append(differences, "ranges")
	}
	if !slices.Equal(sorted(view.Datasets), sorted(request.Datasets)) {
		differences = append(differences, "datasets")
	}
	return differences
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// EditKey implements Service.
func (l *Local) EditKey(ctx context.Context, ref string, edit KeyEdit) (KeyView, error) {
	var view KeyView
	err := l.update(ctx, func(c *change) error {
		rec, changed, err := edited(c, ref, edit, c.now)
		if err != nil {
			return err
		}
		if err := c.PutKey(rec.Key); err != nil {
			return err
		}
		view = rec.View(c.now)
		c.noteEdit("keys.edit", keyObject(rec.Key), changed)
		return nil
	})
	return view, err
}

// noteEdit records an edit with what it changed, or as a no-op when it changed nothing.
func (c *change) noteEdit(action string, object audit.Object, changed []string) {
	if len(changed) == 0 {
		c.noteOutcome(action, object, audit.NoOp)
		return
	}
	c.note(action, object, changed...)
}

// difference describes a changed value for the audit log, as a name and what became of it; nothing if it is the same.
func difference(name, before, after string) []string {
	if before == after {
		return nil
	}
	return []string{name, before + " -> " + after}
}

// CheckEdit implements Service.
func (l *Local) CheckEdit(ctx context.Context, ref string, edit KeyEdit) ([]netip.Addr, error) {
	var shutOut []netip.Addr
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		rec, _, err := edited(tx, ref, edit, now)
		if err != nil {
			return err
		}
		for _, cred := range []*Credential{rec.Current, rec.Grace} {
			if cred == nil || now.Sub(cred.LastUsedAt) > recentUse {
				continue
			}
			addr, err := netip.ParseAddr(cred.LastUsedFrom)
			if err == nil && !rec.IPRanges.Contains(addr) && !slices.Contains(shutOut, addr) {
				shutOut = append(shutOut, addr)
			}
		}
		return nil
	})
	return shutOut, err
}

// edited finds a key and applies an edit to it, in memory. It describes what changed.
func edited(tx Tx, ref string, edit KeyEdit, now time.Time) (KeyRecord, []string, error) {
	rec, err := findKey(tx, ref, now)
	if err != nil {
		return rec, nil, err
	}
	if err := requireState(rec.Key, now, KeyActive, KeyDisabled, KeyExpired); err != nil {
		return rec, nil, err
	}
	if rec.State(now) == KeyExpired && edit.beyondWords() {
		return rec, nil, stateError(rec.Key, KeyExpired)
	}
	before := rec.Key
	if err := edit.applyWords(&rec.Key); err != nil {
		return rec, nil, err
	}
	if edit.ExpiresAt != nil {
		rec.ExpiresAt = Instant(*edit.ExpiresAt)
		if err := encodable(rec.ExpiresAt); err != nil {
			return rec, nil, err
		}
		if reached(rec.ExpiresAt, now) {
			return rec, nil, pastDate(rec.ExpiresAt)
		}
	}
	if rec.IPRanges, err = edit.ranges(rec.IPRanges); err != nil {
		return rec, nil, err
	}
	if rec.Name != before.Name {
		if err := nameFree(tx, rec.Key); err != nil {
			return rec, nil, err
		}
	}
	return rec, changes(before, rec.Key), nil
}

// beyondWords reports whether the edit touches more than an expired key allows: its name, labels and description.
func (e KeyEdit) beyondWords() bool {
	return e.ExpiresAt != nil || e.IPRanges != nil || len(e.AddRanges) > 0 || len(e.RemoveRanges) > 0 || e.AnyAddress
}

// applyWords changes name, description and labels.
func (e KeyEdit) applyWords(k *Key) error {
	if e.Name != nil {
		if err := ValidateName("key", *e.Name); err != nil {
			return err
		}
		k.Name = *e.Name
	}
	if e.Description != nil {
		if err := validateText("description", *e.Description, maxDescription); err != nil {
			return err
		}
		k.Description = *e.Description
	}
	labels := map[string]string{}
	for name, value := range k.Labels {
		labels[name] = value
	}
	for name, value := range e.SetLabels {
		labels[name] = value
	}
	for _, name := range e.RemoveLabels {
		delete(labels, name)
	}
	k.Labels = labels
	return validateLabels(labels)
}

// ranges computes the edited allow-list.
func (e KeyEdit) ranges(list iprange.List) (iprange.List, error) {
	incremental := len(e.AddRanges) > 0 || len(e.RemoveRanges) > 0
	if e.IPRanges != nil && (incremental || e.AnyAddress) || e.AnyAddress && incremental {
		return list, fault.New(fault.Invalid, "an edit replaces the ranges, adds and removes some, or lifts them all: not two of these").
			WithHint("use --ip, or --add-ip and --remove-ip, or --any-ip")
	}
	switch {
	case e.AnyAddress:
		return iprange.List{}, nil
	case e.IPRanges != nil:
		if e.IPRanges.IsAny() {
			return list, fault.New(fault.NoRestriction, "an empty list would open the key to any address").
				WithHint("if that is what you want, say --any-ip")
		}
		return *e.IPRanges, nil
	case !incremental:
		return list, nil
	}
	list, err := list.Add(e.AddRanges...)
	if err != nil {
		return list, err
	}
	return list.Remove(e.RemoveRanges...)
}

// nameFree refuses a name that another key has. Unlike a create, a rename does not displace a pending key.
func nameFree(tx Tx, k Key) error {
	other, err := tx.KeyByName(k.Name)
	if fault.Is(err, fault.NotFound) || err == nil && other.ID == k.ID {
		return nil
	}
	return either(err, nameExists("key", k.Name))
}

func nameExists(what, name string) error {
	return fault.New(fault.Exists, "there is a %s %q already", what, name).WithHint("choose another name, or delete that %s first", what)
}

// nameTaken words the store's answer to a unique name that another transaction took first.
func nameTaken(err error, what, name string) error {
	if fault.Is(err, fault.Exists) {
		return nameExists(what, name)
	}
	return err
}

// changes describes what an edit did to a key, for the audit log.
func changes(before, after Key) []string {
	return slices.Concat(
		difference("name", before.Name, after.Name),
		difference("description", before.Description, after.Description),
		difference("labels", labelsText(before.Labels), labelsText(after.Labels)),
		difference("expires_at", expiryText(before.ExpiresAt), expiryText(after.ExpiresAt)),
		difference("ip_ranges", before.IPRanges.String(), after.IPRanges.String()),
	)
}

func labelsText(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for name, value := range labels {
		pairs = append(pairs, name+"="+value)
	}
	return strings.Join(sorted(pairs), " ")
}

func expiryText(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format(time.RFC3339Nano)
}

// EnableKey implements Service.
func (l *Local) EnableKey(ctx context.Context, ref string) (KeyView, error) {
	return l.switchKey(ctx, ref, "keys.enable", func(k *Key, now time.Time) (bool, error) {
		if err := requireState(*k, now, KeyActive, KeyDisabled); err != nil {
			return false, err
		}
		changed := !k.DisabledAt.IsZero()
		k.DisabledAt = time.Time{}
		return changed, nil
	})
}

// DisableKey implements Service.
func (l *Local) DisableKey(ctx context.Context, ref string, compromised bool) (KeyView, error) {
	var detail []string
	if compromised {
		detail = []string{"compromised", "true"}
	}
	return l.switchKey(ctx, ref, "keys.disable", func(k *Key, now time.Time) (bool, error) {
		if err := requireState(*k, now, KeyActive, KeyDisabled, KeyCompromised, KeyExpired); err != nil {
			return false, err
		}
		state := k.State(now)
		changed := state == KeyActive || state == KeyDisabled && compromised
		if !changed {
			return false, nil
		}
		if k.DisabledAt.IsZero() {
			k.DisabledAt = now
		}
		if compromised {
			k.CompromisedAt = now
		}
		return true, nil
	}, detail...)
}

// switchKey applies a change of a key's state, audited as a no-op when it changes nothing (R33).
func (l *Local) switchKey(ctx context.Context, ref, action string, apply func(k *Key, now time.Time) (bool, error), detail ...string) (KeyView, error) {
	var view KeyView
	err := l.update(ctx, func(c *change) error {
		rec, err := findKey(c, ref, c.now)
		if err != nil {
			return err
		}
		changed, err := apply(&rec.Key, c.now)
		if err != nil {
			return err
		}
		view = rec.View(c.now)
		if !changed {
			c.noteOutcome(action, keyObject(rec.Key), audit.NoOp, detail...)
			return nil
		}
		c.note(action, keyObject(rec.Key), detail...)
		return c.PutKey(rec.Key)
	})
	return view, err
}

// DeleteKey implements Service.
func (l *Local) DeleteKey(ctx context.Context, ref string) (KeyView, error) {
	var view KeyView
	err := l.update(ctx, func(c *change) error {
		rec, err := findKey(c, ref, c.now)
		if err != nil {
			return err
		}
		switch rec.State(c.now) {
		case KeyDeleted:
			view = rec.View(c.now)
			c.noteOutcome("keys.delete", keyObject(rec.Key), audit.NoOp)
			return nil
		case KeyPending:
			err = c.dropUnproven(rec, EndWithdrawn)
		default:
			err = c.tombstone(rec, EndDeleted)
		}
		if err != nil {
			return err
		}
		c.note("keys.delete", keyObject(rec.Key))
		gone, err := c.Key(rec.ID)
		view = gone.View(c.now)
		return err
	})
	return view, err
}
