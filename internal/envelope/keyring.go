package envelope

import (
	"bytes"
	"cmp"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"

	"keyctl/internal/fault"
)

// hintRestore is the next step when stored bytes do not open under the right master key.
const hintRestore = "restore the store from a backup"

// masterVersion stands in a wrapped keyring's header. A master key carries no version of its own, so it is 1 until
// there is a way to change one.
const masterVersion = 1

// purpose says what a key of the ring is for. The numbers are stored.
type purpose byte

const (
	sealing   purpose = 1 // the key-encryption key (KEK): Seal and Open
	verifying purpose = 2 // MAC and CheckMAC
	rowMAC    purpose = 3 // not used yet: drawn from the start because adding a key later would take a migration
	auditing  purpose = 4 // AuditKey
)

var purposes = []purpose{sealing, verifying, rowMAC, auditing}

// keyID names one key of the ring. Versions count from 1; the highest is used for new values and every other one
// only for values that name it.
type keyID struct {
	purpose purpose
	version uint32
}

// Keyring holds a store's own keys. They are random and wrapped by the master key instead of derived from it: a
// changed master key must not void the MACs and ciphertexts that are already stored. A Keyring comes from DrawKeyring
// or Unwrap, is not changed afterwards and may be used from several goroutines. The zero value has no keys: nothing
// opens with it, and making something with it panics.
type Keyring struct {
	masked
	keys map[keyID]key
}

// DrawKeyring makes version 1 of every key from rand.
func DrawKeyring(rand io.Reader) (Keyring, error) {
	keys := make(map[keyID]key)
	for _, p := range purposes {
		k, err := drawKey(rand)
		if err != nil {
			return Keyring{}, err
		}
		keys[keyID{p, 1}] = k
	}
	return Keyring{keys: keys}, nil
}

// Wrap seals the ring under the master key for the store with this id: header ‖ nonce ‖ ciphertext ‖ tag. The ring
// opens again only for the same store.
func (r Keyring) Wrap(m MasterKey, storeID string) ([]byte, error) {
	if storeID == "" || len(r.keys) == 0 {
		return nil, fault.New(fault.Internal, "an empty keyring, or one of no store, was about to be wrapped")
	}
	plain := r.encode()
	defer clear(plain)
	header := appendHeader(nil, formatKeyring, masterVersion)
	return m.wrapping().Seal(header, nil, plain, keyringBinding(storeID)), nil
}

// Unwrap opens a ring that Wrap sealed. Every failure is store_damaged, so call MasterKey.Check first: after it a
// wrong master key is no longer a possible reason.
func Unwrap(m MasterKey, storeID string, blob []byte) (Keyring, error) {
	r, err := unwrap(m, storeID, blob)
	if err != nil {
		return Keyring{}, fault.New(fault.StoreDamaged, "the store's keyring cannot be opened").
			WithHint(hintRestore).WithCause(err)
	}
	return r, nil
}

func unwrap(m MasterKey, storeID string, blob []byte) (Keyring, error) {
	version, sealed, err := parseHeader(blob, formatKeyring)
	if err != nil {
		return Keyring{}, err
	}
	if version != masterVersion {
		return Keyring{}, errKeyVersion
	}
	plain, err := m.wrapping().Open(nil, nil, sealed, keyringBinding(storeID))
	if err != nil {
		return Keyring{}, err
	}
	defer clear(plain)
	return decodeKeyring(plain)
}

func (m MasterKey) wrapping() cipher.AEAD { return m.derive(nil, "keyctl-master-wrap-v1").aead() }

func keyringBinding(storeID string) []byte {
	return binding(formatKeyring, masterVersion, "keyring", storeID)
}

// MAC returns a value to store in place of a secret that is only ever compared, such as a recovery code:
// header ‖ HMAC-SHA-256, 37 bytes. It is keyed, so that who can write rows but lacks the keyring cannot plant a value
// for a secret of his own. The label names the use; label and parts are framed, so that neither another use nor
// another division into parts gives the same MAC.
func (r Keyring) MAC(label string, parts ...[]byte) []byte {
	version, k := r.newest(verifying)
	return macUnder(k, version, label, parts)
}

// CheckMAC reports in constant time whether stored is the MAC of label and parts. It is made again under the key
// version that stored names; an unknown version or format is a plain no.
func (r Keyring) CheckMAC(stored []byte, label string, parts ...[]byte) bool {
	version, _, err := parseHeader(stored, formatMAC)
	if err != nil {
		return false
	}
	k, ok := r.keys[keyID{verifying, version}]
	return ok && hmac.Equal(stored, macUnder(k, version, label, parts))
}

func macUnder(k key, version uint32, label string, parts [][]byte) []byte {
	mac := hmac.New(sha256.New, k.bytes())
	mac.Write(appendHeader(nil, formatMAC, version))
	mac.Write(appendFramed(nil, label))
	mac.Write(appendFramed(nil, parts...))
	return mac.Sum(appendHeader(nil, formatMAC, version))
}

// AuditKey returns a copy of the key that the audit chain is authenticated with.
func (r Keyring) AuditKey() []byte {
	_, k := r.newest(auditing)
	return bytes.Clone(k.bytes())
}

// newest returns the highest version of the keys for p.
func (r Keyring) newest(p purpose) (uint32, key) {
	var version uint32
	for id := range r.keys {
		if id.purpose == p {
			version = max(version, id.version)
		}
	}
	return version, r.keys[keyID{p, version}]
}

// entrySize is the length of one key in an encoded ring: purpose, one byte ‖ version, 32 bits big-endian ‖ key.
const entrySize = 1 + 4 + keySize

// encode returns the entries in ascending order of purpose and version, which makes the encoding of a ring unique.
func (r Keyring) encode() []byte {
	ids := slices.SortedFunc(maps.Keys(r.keys), compareIDs)
	b := make([]byte, 0, len(ids)*entrySize)
	for _, id := range ids {
		b = appendHeader(b, byte(id.purpose), id.version)
		b = append(b, r.keys[id].bytes()...)
	}
	return b
}

func compareIDs(a, b keyID) int {
	return cmp.Or(cmp.Compare(a.purpose, b.purpose), cmp.Compare(a.version, b.version))
}

// decodeKeyring reads what encode wrote. It refuses what encode never writes: entries out of order or twice, version
// 0, a purpose without a key, and a purpose it does not know, which only a newer format could mean.
func decodeKeyring(b []byte) (Keyring, error) {
	if len(b)%entrySize != 0 {
		return Keyring{}, fmt.Errorf("%w: a keyring of %d bytes", errContent, len(b))
	}
	keys := make(map[keyID]key)
	var last keyID
	for entry := range slices.Chunk(b, entrySize) {
		id := keyID{purpose(entry[0]), binary.BigEndian.Uint32(entry[1:])}
		if id.version == 0 || !slices.Contains(purposes, id.purpose) || compareIDs(last, id) >= 0 {
			return Keyring{}, fmt.Errorf("%w: key %d of purpose %d", errContent, id.version, id.purpose)
		}
		keys[id] = newKey(bytes.Clone(entry[headerSize:]))
		last = id
	}
	r := Keyring{keys: keys}
	for _, p := range purposes {
		if version, _ := r.newest(p); version == 0 {
			return Keyring{}, fmt.Errorf("%w: no key of purpose %d", errContent, p)
		}
	}
	return r, nil
}
