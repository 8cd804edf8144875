package keys

import (
	"bytes"
	"context"
	"io"
	"slices"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/audit"
	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/fault"
)

// Local is the Service on a Store: every rule stands here, once. It acts for one caller: who opened the store, or with
// Admit the holder of a token.
type Local struct {
	store   Store
	storeID string
	decoy   string // Meta.Decoy
	keyring envelope.Keyring
	chain   audit.Chain
	caller  Operator
	token   *Token // what the caller was admitted with; nil for who opened the store
	origin  Origin // of the request
	env     Env

	journal *journal // of what many requests have to remember; shared by all that were admitted
	touched *touched
}

var _ Service = (*Local)(nil)

// Env is what Local takes from the world outside.
type Env struct {
	Now    func() time.Time
	Rand   io.Reader
	OSUser string // names the local operator at Init, and stands in the audit log when it is somebody else
	// Skew is how far away from Now a signed request that is verified may have been made. 0: signature.Skew.
	Skew time.Duration
}

// Init fills an empty store in one transaction: its identity, a keyring wrapped by the master key, an operator named
// after the OS user with the role of owner, and the first audit record. exists: the store was filled before.
func Init(ctx context.Context, store Store, master envelope.MasterKey, env Env) error {
	storeID, err := drawID("st_", env.Rand)
	if err != nil {
		return err
	}
	operatorID, err := drawID("op_", env.Rand)
	if err != nil {
		return err
	}
	keyring, err := envelope.DrawKeyring(env.Rand)
	if err != nil {
		return err
	}
	wrapped, err := keyring.Wrap(master, storeID)
	if err != nil {
		return err
	}
	decoy, err := drawDecoy(keyring, env.Rand)
	if err != nil {
		return err
	}
	return store.Update(ctx, func(tx Tx) error {
		if _, err := tx.Meta(); !fault.Is(err, fault.NoStore) {
			return either(err, fault.New(fault.Exists, "the store is initialised already"))
		}
		now := Instant(env.Now())
		owner := Operator{ID: operatorID, Name: env.OSUser, Role: access.Owner, CreatedAt: now}
		meta := Meta{StoreID: storeID, CreatedAt: now, CheckValue: master.CheckValue(storeID), Keyring: wrapped, Decoy: decoy.AccessKeyID}
		if err := tx.PutMeta(meta); err != nil {
			return err
		}
		if err := tx.PutOperator(owner); err != nil {
			return err
		}
		if err := putDecoy(tx, decoy, owner, now); err != nil {
			return err
		}
		l := newLocal(store, meta, keyring, owner, env)
		c := &change{Tx: tx, l: l, now: now}
		c.note("init", audit.Object{Type: "store", ID: storeID})
		return c.writeAudit()
	})
}

// CheckMaster tells whether the master key is the store's, so that nothing is written with a wrong one, not even an upgrade.
// no_store: Init never completed. master_key_wrong: it is another store's.
func CheckMaster(ctx context.Context, store Store, master envelope.MasterKey) error {
	return store.View(ctx, func(tx Tx) error {
		_, err := metaFor(tx, master)
		return err
	})
}

func metaFor(tx Tx, master envelope.MasterKey) (Meta, error) {
	meta, err := tx.Meta()
	if err != nil {
		return meta, err
	}
	return meta, master.Check(meta.StoreID, meta.CheckValue)
}

// Open makes a Service of an initialised store. It checks the master key before anything else and writes nothing.
// no_store: Init never completed. master_key_wrong: it is not this store's key. store_damaged: the key is right and the
// keyring does not open. forbidden: there is nobody to act for.
func Open(ctx context.Context, store Store, master envelope.MasterKey, env Env) (*Local, error) {
	var meta Meta
	var operators []Operator
	err := store.View(ctx, func(tx Tx) (err error) {
		if meta, err = metaFor(tx, master); err != nil {
			return err
		}
		operators, err = tx.Operators()
		return err
	})
	if err != nil {
		return nil, err
	}
	keyring, err := envelope.Unwrap(master, meta.StoreID, meta.Keyring)
	if err != nil {
		return nil, err
	}
	caller, err := localOperator(operators, env.OSUser)
	if err != nil {
		return nil, err
	}
	return newLocal(store, meta, keyring, caller, env), nil
}

// localOperator is who acts on a store on this machine: the operator named after the OS user, or else the owner that
// init made, for a store may be carried to a machine where its owner has another login name. Who can open the file and
// its master key could do anything by hand anyway.
func localOperator(operators []Operator, osUser string) (Operator, error) {
	for _, o := range operators {
		if o.Name == osUser && o.State() == OperatorActive {
			return o, nil
		}
	}
	for _, o := range operators {
		if o.Role == access.Owner && o.State() == OperatorActive {
			return o, nil
		}
	}
	return Operator{}, fault.New(fault.Forbidden, "the store has no operator to act for")
}

func newLocal(store Store, meta Meta, keyring envelope.Keyring, caller Operator, env Env) *Local {
	l := &Local{
		store: store, storeID: meta.StoreID, decoy: meta.Decoy, keyring: keyring, caller: caller, env: env,
		chain: audit.NewChain(keyring.AuditKey(), meta.StoreID), touched: &touched{},
	}
	l.journal = newJournal(l)
	return l
}

// Caller is who the Service acts for.
func (l *Local) Caller() Operator { return l.caller }

// TokenID is the id of the token that the caller was admitted with; empty for who opened the store.
func (l *Local) TokenID() string {
	if l.token == nil {
		return ""
	}
	return l.token.ID
}

// Writable writes to the store and leaves it as it was, so that a server knows whether changes and their audit records
// would be kept. store_busy, unavailable: not now.
func (l *Local) Writable(ctx context.Context) error {
	return l.store.Update(ctx, func(tx Tx) error {
		meta, err := tx.Meta()
		if err != nil {
			return err
		}
		return tx.PutMeta(meta)
	})
}

// view runs fn on one consistent state, with the instant at which it is judged.
func (l *Local) view(ctx context.Context, fn func(tx Tx, now time.Time) error) error {
	return l.store.View(ctx, func(tx Tx) error { return fn(l.scoped(tx), Instant(l.env.Now())) })
}

// update runs fn as one change: time is taken once, after the wait for other writers; what time has ended meanwhile is
// tidied first; and what fn noted goes into the audit log in the same transaction.
//
// When the answer to a COMMIT was lost, the audit log tells what happened (R32): under the write lock, the change's last
// record is there, or it is not and never will be, and fn runs again. outcome_unknown remains where nobody answers that.
func (l *Local) update(ctx context.Context, fn func(c *change) error) error {
	var lost audit.Record // the last one of the change whose outcome is not known
	var unknown error
	for range commitTries {
		var c *change
		asked, found := lost.Seq == 0, false
		err := l.store.Update(ctx, func(tx Tx) (err error) {
			if lost.Seq != 0 {
				if found, err = hasRecord(tx, lost); err != nil || found {
					return err
				}
				asked = true
			}
			c = &change{Tx: tx, l: l, now: Instant(l.env.Now())}
			if err := c.sweep(); err != nil {
				return err
			}
			c.Tx = l.scoped(tx)
			if err := fn(c); err != nil {
				return err
			}
			return c.writeAudit()
		})
		switch {
		case found && err == nil:
			return nil
		case !asked || found:
			return unknown
		case !fault.Is(err, fault.OutcomeUnknown) || c == nil || c.written.Seq == 0:
			return err
		}
		lost, unknown = c.written, err
	}
	return unknown
}

// commitTries is how often a change is made whose COMMIT is lost again and again.
const commitTries = 4

// hasRecord reports whether the audit log has exactly this record.
func hasRecord(tx Tx, r audit.Record) (bool, error) {
	records, err := tx.AuditRecords(r.Seq-1, 1)
	return len(records) == 1 && records[0].Seq == r.Seq && bytes.Equal(records[0].MAC, r.MAC), err
}

// change is a transaction of Local: the store's Tx, the instant, and the audit events it will leave.
type change struct {
	Tx
	l      *Local
	now    time.Time
	events []audit.Event

	written audit.Record // the last one; none: its Seq is 0
}

// note plans an audit record of something done. detail holds names and values in turn.
func (c *change) note(action string, object audit.Object, detail ...string) {
	c.noteOutcome(action, object, audit.OK, detail...)
}

func (c *change) noteOutcome(action string, object audit.Object, outcome audit.Outcome, detail ...string) {
	e := c.event(action, object, outcome)
	for pair := range slices.Chunk(detail, 2) {
		e.Detail[pair[0]] = pair[1]
	}
	c.events = append(c.events, e)
}

func (c *change) event(action string, object audit.Object, outcome audit.Outcome) audit.Event {
	e := audit.Event{
		At: c.now, Actor: audit.Actor{ID: c.l.caller.ID, Name: c.l.caller.Name},
		Action: action, Object: object, Outcome: outcome, Detail: map[string]string{},
	}
	switch {
	case c.l.token != nil:
		e.Address, e.RequestID, e.Detail["token"] = c.l.origin.address(), c.l.origin.RequestID, c.l.token.ID
	case c.l.caller.ID != "" && c.l.env.OSUser != c.l.caller.Name:
		e.Detail["os_user"] = c.l.env.OSUser
	}
	return e
}

// writeAudit appends the noted events to the chain. It comes last in the transaction: if it fails, nothing happened.
func (c *change) writeAudit() error {
	if len(c.events) == 0 {
		return nil
	}
	head, err := c.AuditHead()
	if fault.Is(err, fault.NotFound) {
		head, err = c.l.chain.Genesis(), nil
	}
	if err != nil {
		return err
	}
	records, head, err := c.l.chain.Append(head, c.events...)
	if err != nil {
		return err
	}
	c.written = records[len(records)-1]
	return c.AppendAudit(head, records...)
}

func keyObject(k Key) audit.Object { return audit.Object{Type: "key", ID: k.ID, Name: k.Name} }

func datasetObject(d Dataset) audit.Object {
	return audit.Object{Type: "dataset", ID: d.ID, Name: d.Name}
}

func primaryKeyObject(k PrimaryKey) audit.Object {
	return audit.Object{Type: "primary_key", ID: k.ID, Name: k.Name}
}

func operatorObject(o Operator) audit.Object {
	return audit.Object{Type: "operator", ID: o.ID, Name: o.Name}
}

// drawID draws an identifier: a prefix that tells what it names, and 22 base62 characters (131 bits).
func drawID(prefix string, random io.Reader) (string, error) {
	return credential.DrawID(random, prefix)
}

// The places of sealed values: a value moved to another row or column does not open.
func signingKeySlot(accessKeyID string) envelope.Slot {
	return envelope.Slot{Table: "credentials", Row: accessKeyID, Column: "signing_key"}
}

func seedSlot(operatorID string) envelope.Slot {
	return envelope.Slot{Table: "second_factors", Row: operatorID, Column: "seed"}
}

func primaryKeySlot(id string, version uint32) envelope.Slot {
	return envelope.Slot{Table: "primary_key_versions", Row: id + "/" + formatUint(version), Column: "sealed"}
}

// either returns err if there is one, otherwise the fallback.
func either(err, fallback error) error {
	if err != nil {
		return err
	}
	return fallback
}
