package envelope

import "keyctl/internal/fault"

// Slot is the one place in the store where a sealed value belongs. It is part of what is authenticated, so a
// ciphertext copied to another row or column does not open there. Row is the row's id as text and is not secret: it
// appears in errors.
type Slot struct{ Table, Row, Column string }

// Seal encrypts plain for the slot under the newest key-encryption key:
//
//	format version 1 ‖ KEK version (4) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//
// with AES-256-GCM and format version ‖ table ‖ row ‖ column ‖ KEK version, the names framed, as additional data. It
// adds 33 bytes. The nonce comes from crypto/rand, which ends the program if it fails. A slot with an empty part is
// refused as internal, because its ciphertext would open in more places than one.
func (r Keyring) Seal(slot Slot, plain []byte) ([]byte, error) {
	if slot.Table == "" || slot.Row == "" || slot.Column == "" {
		return nil, fault.New(fault.Internal, "column %q of table %q, row %q, is no complete place to seal for",
			slot.Column, slot.Table, slot.Row)
	}
	version, kek := r.newest(sealing)
	gcm := kek.aead()
	blob := make([]byte, 0, headerSize+len(plain)+gcm.Overhead())
	return gcm.Seal(appendHeader(blob, formatSealed, version), nil, plain, slot.binding(version)), nil
}

// Open decrypts what Seal made for the same slot. Every failure is store_damaged and names the slot, never the content;
// which check failed is in the cause.
func (r Keyring) Open(slot Slot, blob []byte) ([]byte, error) {
	plain, err := r.open(slot, blob)
	if err != nil {
		return nil, fault.New(fault.StoreDamaged, "column %q of table %q cannot be opened in row %q",
			slot.Column, slot.Table, slot.Row).WithHint(hintRestore).WithCause(err)
	}
	return plain, nil
}

func (r Keyring) open(slot Slot, blob []byte) ([]byte, error) {
	version, sealed, err := parseHeader(blob, formatSealed)
	if err != nil {
		return nil, err
	}
	kek, ok := r.keys[keyID{sealing, version}]
	if !ok {
		return nil, errKeyVersion
	}
	return kek.aead().Open(nil, nil, sealed, slot.binding(version))
}

func (s Slot) binding(version uint32) []byte {
	return binding(formatSealed, version, s.Table, s.Row, s.Column)
}
