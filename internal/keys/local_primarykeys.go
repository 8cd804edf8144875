package keys

import (
	"context"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/envelope"
	"keyctl/internal/fault"
)

// findPrimaryKey finds a Primary Key by name.
func findPrimaryKey(tx Tx, name string) (PrimaryKeyRecord, error) {
	k, err := tx.PrimaryKeyByName(name)
	if fault.Is(err, fault.NotFound) {
		return k, fault.New(fault.NotFound, "no Primary Key %q", name).WithHint("`keyctl primary-keys list` shows the Primary Keys")
	}
	return k, err
}

// PrimaryKey implements Service.
func (l *Local) PrimaryKey(ctx context.Context, name string) (PrimaryKeyView, error) {
	var view PrimaryKeyView
	err := l.view(ctx, func(tx Tx, _ time.Time) error {
		k, err := findPrimaryKey(tx, name)
		view = k.View()
		return err
	})
	return view, err
}

// PrimaryKeys implements Service.
func (l *Local) PrimaryKeys(ctx context.Context, cursor string, limit int) (Page[PrimaryKeyView], error) {
	var page Page[PrimaryKeyView]
	err := l.view(ctx, func(tx Tx, _ time.Time) (err error) {
		page, err = pageByName("primary-keys", cursor, limit, tx.PrimaryKeys, PrimaryKeyRecord.View, func(k PrimaryKeyRecord) string { return k.Name })
		return err
	})
	return page, err
}

// drawPrimaryKey draws a Primary Key with its first version, sealed; its name and times come with the transaction.
func (l *Local) drawPrimaryKey() (PrimaryKey, error) {
	id, err := drawID("pk_", l.env.Rand)
	if err != nil {
		return PrimaryKey{}, err
	}
	version, err := l.drawVersion(id, 1)
	return PrimaryKey{ID: id, Versions: []PrimaryKeyVersion{version}}, err
}

// drawVersion draws one version of a Primary Key, sealed for its own row.
func (l *Local) drawVersion(id string, version uint32) (PrimaryKeyVersion, error) {
	secret, err := envelope.DrawPrimaryKey(l.env.Rand)
	if err != nil {
		return PrimaryKeyVersion{}, err
	}
	sealed, err := l.keyring.Seal(primaryKeySlot(id, version), secret.Bytes())
	return PrimaryKeyVersion{Version: version, Sealed: sealed}, err
}

// addPrimaryKey stores a drawn Primary Key.
func (c *change) addPrimaryKey(k PrimaryKey) error {
	k.CreatedAt, k.CreatedBy = c.now, c.l.caller.Name
	k.Versions[0].CreatedAt = c.now
	c.note("primary-keys.create", primaryKeyObject(k))
	return nameTaken(c.PutPrimaryKey(k), "Primary Key", k.Name)
}

// ValidatePrimaryKey checks the name and description of a new Primary Key, so that a caller can find a mistake before it
// opens or makes anything.
func ValidatePrimaryKey(name, description string) error {
	if err := ValidateName("Primary Key", name); err != nil {
		return err
	}
	return validateText("description", description, maxDescription)
}

// CreatePrimaryKey implements Service.
func (l *Local) CreatePrimaryKey(ctx context.Context, name, description string) (PrimaryKeyView, error) {
	if err := ValidatePrimaryKey(name, description); err != nil {
		return PrimaryKeyView{}, err
	}
	made, err := l.drawPrimaryKey()
	if err != nil {
		return PrimaryKeyView{}, err
	}
	made.Name, made.Description = name, description
	return l.changePrimaryKey(ctx, name, func(c *change) error { return c.addPrimaryKey(made) })
}

// RotatePrimaryKey implements Service.
func (l *Local) RotatePrimaryKey(ctx context.Context, name string) (PrimaryKeyView, error) {
	return l.changePrimaryKey(ctx, name, func(c *change) error {
		k, err := findPrimaryKey(c, name)
		if err != nil {
			return err
		}
		if k.State() == PrimaryKeyDisabled {
			return primaryKeyDisabled(name)
		}
		next, err := l.drawVersion(k.ID, uint32(len(k.Versions))+1)
		if err != nil {
			return err
		}
		next.CreatedAt = c.now
		k.Versions = append(k.Versions, next)
		c.note("primary-keys.rotate", primaryKeyObject(k.PrimaryKey), "version", formatUint(next.Version))
		return c.PutPrimaryKey(k.PrimaryKey)
	})
}

func primaryKeyDisabled(name string) error {
	return fault.New(fault.KeyDisabled, "the Primary Key %q is disabled", name).WithHint("`keyctl primary-keys enable %s` first", name)
}

// changePrimaryKey runs one change and returns what the Primary Key is afterwards.
func (l *Local) changePrimaryKey(ctx context.Context, name string, fn func(c *change) error) (PrimaryKeyView, error) {
	var view PrimaryKeyView
	err := l.update(ctx, func(c *change) error {
		if err := fn(c); err != nil {
			return err
		}
		k, err := findPrimaryKey(c, name)
		view = k.View()
		return err
	})
	return view, err
}

// DisablePrimaryKey implements Service.
func (l *Local) DisablePrimaryKey(ctx context.Context, name string, version uint32, code string) (PrimaryKeyView, error) {
	var view PrimaryKeyView
	check := func(c *change) (bool, error) {
		k, disabledAt, err := disableable(c, name, version)
		if err != nil || disabledAt.IsZero() {
			return false, err
		}
		view = k.View()
		c.noteOutcome("primary-keys.disable", primaryKeyObject(k.PrimaryKey), audit.NoOp, versionDetail(version)...)
		return true, nil
	}
	err := l.guarded(ctx, "primary-keys.disable", code, check, func(c *change) error {
		k, disabledAt, err := disableable(c, name, version)
		if err != nil {
			return err
		}
		*disabledAt = c.now
		view = k.View()
		c.note("primary-keys.disable", primaryKeyObject(k.PrimaryKey), versionDetail(version)...)
		return c.PutPrimaryKey(k.PrimaryKey)
	})
	return view, err
}

// disableable finds what a disable or enable is about: the time at which the Primary Key, or one version of it, was
// disabled. The newest version cannot be disabled alone: the Primary Key could then decrypt and no longer encrypt.
func disableable(tx Tx, name string, version uint32) (*PrimaryKeyRecord, *time.Time, error) {
	k, err := findPrimaryKey(tx, name)
	if err != nil {
		return nil, nil, err
	}
	if version == 0 {
		return &k, &k.DisabledAt, nil
	}
	if uint64(version) > uint64(len(k.Versions)) {
		return nil, nil, fault.New(fault.NotFound, "the Primary Key %q has no version %d", name, version).
			WithHint("its newest version is %d", len(k.Versions))
	}
	if int(version) == len(k.Versions) {
		return nil, nil, fault.New(fault.Invalid, "version %d of the Primary Key %q is the newest, which encrypts", version, name).
			WithHint("rotate it first, or disable the whole Primary Key without --version")
	}
	return &k, &k.Versions[version-1].DisabledAt, nil
}

func versionDetail(version uint32) []string {
	if version == 0 {
		return nil
	}
	return []string{"version", formatUint(version)}
}

// EnablePrimaryKey implements Service.
func (l *Local) EnablePrimaryKey(ctx context.Context, name string, version uint32) (PrimaryKeyView, error) {
	return l.changePrimaryKey(ctx, name, func(c *change) error {
		k, disabledAt, err := disableable(c, name, version)
		if err != nil {
			return err
		}
		if disabledAt.IsZero() {
			c.noteOutcome("primary-keys.enable", primaryKeyObject(k.PrimaryKey), audit.NoOp, versionDetail(version)...)
			return nil
		}
		*disabledAt = time.Time{}
		c.note("primary-keys.enable", primaryKeyObject(k.PrimaryKey), versionDetail(version)...)
		return c.PutPrimaryKey(k.PrimaryKey)
	})
}
