package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"time"

	"keyctl/internal/fault"
)

// Record is an event as it is stored. Body and MAC are kept byte for byte: hash and MAC are computed over Body as it
// stands and it is never written anew.
type Record struct {
	Seq  int64  // from 1, without gaps
	Body []byte // compact JSON, see document
	MAC  []byte // 32 bytes, see Chain
}

// Entry is what a record's body says: the event and its place in the chain.
type Entry struct {
	Seq  int64
	Prev [32]byte // the hash of the record before; zero in the first
	Event
}

// Hash returns SHA-256 of the body.
func (r Record) Hash() [32]byte { return sha256.Sum256(r.Body) }

// Event returns the event. It checks that the body can be read and belongs to this row, else store_damaged, and
// nothing more: that nobody changed it is for a Verifier to say.
func (r Record) Event() (Event, error) {
	entry, err := r.Entry()
	return entry.Event, err
}

// Entry is Event together with the place in the chain.
func (r Record) Entry() (Entry, error) {
	entry, err := decode(r.Body)
	if err == nil && entry.Seq != r.Seq {
		err = errors.New("the body has another number than the row")
	}
	if err != nil {
		return Entry{}, fault.New(fault.StoreDamaged, "audit record %d cannot be read", r.Seq).
			WithHint("run `keyctl audit verify`").WithCause(err)
	}
	return entry, nil
}

// bodyVersion is the format version of a body. Another one does not decode.
const bodyVersion = 1

// atLayout is RFC 3339 in UTC with exactly six fractional digits.
const atLayout = "2006-01-02T15:04:05.000000Z"

// document is the JSON object in a body: these fields in this order, all of them always there, detail sorted by name.
type document struct {
	V         int               `json:"v"`
	Seq       int64             `json:"seq"`
	At        string            `json:"at"`
	Actor     Actor             `json:"actor"`
	Action    string            `json:"action"`
	Object    Object            `json:"object"`
	Outcome   Outcome           `json:"outcome"`
	Reason    string            `json:"reason"`
	Address   string            `json:"address"`
	RequestID string            `json:"request_id"`
	Detail    map[string]string `json:"detail"`
	Prev      string            `json:"prev"` // 64 lower-case hex digits
}

// encode returns the body of an entry whose event is clean.
func encode(e Entry) ([]byte, error) {
	d := document{
		V: bodyVersion, Seq: e.Seq, At: e.At.Format(atLayout),
		Actor: e.Actor, Action: e.Action, Object: e.Object, Outcome: e.Outcome, Reason: e.Reason,
		Address: e.Address, RequestID: e.RequestID, Detail: e.Detail, Prev: hex.EncodeToString(e.Prev[:]),
	}
	if d.Detail == nil {
		d.Detail = map[string]string{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // a record is read by people and grep, never by a browser
	if err := enc.Encode(d); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// decode reads a body. It refuses what Append never writes: unknown fields, other versions, anything after the object,
// text that is not clean, and times, hashes and numbers in another form.
func decode(body []byte) (Entry, error) {
	var d document
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return Entry{}, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return Entry{}, errors.New("something follows the object")
	}
	if d.V != bodyVersion {
		return Entry{}, errors.New("unknown format version")
	}
	if d.Seq < 1 {
		return Entry{}, errors.New("numbers count from 1")
	}
	at, err := time.Parse(atLayout, d.At)
	if err != nil || at.Format(atLayout) != d.At {
		return Entry{}, errors.New("the time is malformed")
	}
	prev, err := parseHash(d.Prev)
	if err != nil {
		return Entry{}, err
	}
	if len(d.Detail) == 0 {
		d.Detail = nil
	}
	e := Event{
		At: at, Actor: d.Actor, Action: d.Action, Object: d.Object, Outcome: d.Outcome, Reason: d.Reason,
		Address: d.Address, RequestID: d.RequestID, Detail: d.Detail,
	}
	if flaw := e.flaw(); flaw != "" {
		return Entry{}, errors.New("the event " + flaw)
	}
	return Entry{Seq: d.Seq, Prev: prev, Event: e}, nil
}

// parseHash reads exactly 64 lower-case hex digits.
func parseHash(text string) (hash [32]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(hash) || hex.EncodeToString(b) != text {
		return hash, errors.New("a hash is 64 lower-case hex digits")
	}
	return [32]byte(b), nil
}
