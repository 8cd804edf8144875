package store

import (
	"time"

	"keyctl/internal/access"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// Operators are read before an upgrade too, to open a store or a backup of version 1, which had none of the later columns.
const (
	selectOperator   = `SELECT id, name, role, created_at, created_by, disabled_at, deleted_at FROM operators `
	selectOperatorV1 = `SELECT id, name, role, created_at, '', NULL, NULL FROM operators `
)

func (t *tx) selectOperator() string {
	if t.db.version.Load() == 1 {
		return selectOperatorV1
	}
	return selectOperator
}

func operatorRow(row scan) (o keys.Operator, err error) {
	var role string
	err = row(&o.ID, &o.Name, &role, instant{&o.CreatedAt}, &o.CreatedBy, instant{&o.DisabledAt}, instant{&o.DeletedAt})
	if err != nil {
		return o, err
	}
	o.Role, err = access.ParseRole(role)
	return o, err
}

// Operator implements keys.Tx.
func (t *tx) Operator(name string) (keys.Operator, error) {
	o, found, err := first(t, operatorRow, t.selectOperator()+`WHERE name = $1`, name)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "no operator %q", name)
	}
	return o, err
}

// OperatorByID implements keys.Tx.
func (t *tx) OperatorByID(id string) (keys.Operator, error) {
	o, found, err := first(t, operatorRow, t.selectOperator()+`WHERE id = $1`, id)
	if err == nil && !found {
		err = noOperator(id)
	}
	return o, err
}

// Operators implements keys.Tx.
func (t *tx) Operators() ([]keys.Operator, error) {
	return list(t, operatorRow, t.selectOperator()+`ORDER BY seq`)
}

// PutOperator implements keys.Tx.
func (t *tx) PutOperator(o keys.Operator) error {
	_, err := t.exec(`INSERT INTO operators (id, name, role, created_at, created_by, disabled_at, deleted_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, role = excluded.role, created_at = excluded.created_at,
			created_by = excluded.created_by, disabled_at = excluded.disabled_at, deleted_at = excluded.deleted_at`,
		o.ID, o.Name, string(o.Role), micros(o.CreatedAt), o.CreatedBy, optionalMicros(o.DisabledAt), optionalMicros(o.DeletedAt))
	if isTaken(err) {
		return fault.New(fault.Exists, "there is an operator %q already", o.Name).WithCause(err)
	}
	return err
}

// SecondFactor implements keys.Tx.
func (t *tx) SecondFactor(operatorID string) (keys.SecondFactor, error) {
	f, found, err := first(t, func(row scan) (f keys.SecondFactor, err error) {
		err = row(&f.OperatorID, &f.Seed, instant{&f.CreatedAt}, instant{&f.ConfirmedAt}, &f.LastStep,
			&f.Throttle.Failures, instant{&f.Throttle.LockedUntil}, &f.Throttle.Disabled)
		return f, err
	}, `SELECT operator_id, seed, created_at, confirmed_at, last_step, failures, locked_until, disabled
		FROM second_factors WHERE operator_id = $1`, operatorID)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "the operator %q has no second factor", operatorID)
	}
	return f, err
}

// PutSecondFactor implements keys.Tx. not_found: there is no such operator.
func (t *tx) PutSecondFactor(f keys.SecondFactor) error {
	_, err := t.exec(`INSERT INTO second_factors (operator_id, seed, created_at, confirmed_at, last_step, failures,
			locked_until, disabled)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (operator_id) DO UPDATE SET seed = excluded.seed, created_at = excluded.created_at,
			confirmed_at = excluded.confirmed_at, last_step = excluded.last_step, failures = excluded.failures,
			locked_until = excluded.locked_until, disabled = excluded.disabled`,
		f.OperatorID, f.Seed, micros(f.CreatedAt), optionalMicros(f.ConfirmedAt), f.LastStep,
		f.Throttle.Failures, optionalMicros(f.Throttle.LockedUntil), number(f.Throttle.Disabled))
	if isDangling(err) {
		return noOperator(f.OperatorID).WithCause(err)
	}
	return err
}

// DeleteSecondFactor implements keys.Tx.
func (t *tx) DeleteSecondFactor(operatorID string) error {
	if _, err := t.exec(`DELETE FROM recovery_codes WHERE operator_id = $1`, operatorID); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM second_factors WHERE operator_id = $1`, operatorID)
	t.wiped = t.wiped || err == nil
	return err
}

// AdvanceOTP implements keys.Tx. An operator without a second factor is told false.
func (t *tx) AdvanceOTP(operatorID string, step int64) (bool, error) {
	advanced, err := t.exec(`UPDATE second_factors SET last_step = $2 WHERE operator_id = $1 AND last_step < $2`, operatorID, step)
	return advanced > 0, err
}

// PutRecoveryCodes implements keys.Tx. not_found: there is no such operator.
func (t *tx) PutRecoveryCodes(operatorID string, macs [][]byte) error {
	if _, err := t.exec(`DELETE FROM recovery_codes WHERE operator_id = $1`, operatorID); err != nil {
		return err
	}
	for _, mac := range macs {
		_, err := t.exec(`INSERT INTO recovery_codes (operator_id, mac) VALUES ($1, $2)`, operatorID, mac)
		switch {
		case isDangling(err):
			return noOperator(operatorID).WithCause(err)
		case isTaken(err):
			return fault.New(fault.Exists, "two recovery codes are the same").WithCause(err)
		case err != nil:
			return err
		}
	}
	return nil
}

// UseRecoveryCode implements keys.Tx.
func (t *tx) UseRecoveryCode(operatorID string, mac []byte, at time.Time) (bool, error) {
	used, err := t.exec(`UPDATE recovery_codes SET used_at = $3 WHERE operator_id = $1 AND mac = $2 AND used_at IS NULL`,
		operatorID, mac, micros(at))
	return used > 0, err
}

// RecoveryCodesLeft implements keys.Tx.
func (t *tx) RecoveryCodesLeft(operatorID string) (int, error) {
	n, _, err := first(t, integer,
		`SELECT count(*) FROM recovery_codes WHERE operator_id = $1 AND used_at IS NULL`, operatorID)
	return int(n), err
}

func noOperator(id string) *fault.Error { return fault.New(fault.NotFound, "no operator %q", id) }
