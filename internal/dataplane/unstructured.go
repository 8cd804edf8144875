package dataplane

import (
	"encoding/base64"
	"net/http"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// maxUses bounds how often a client may say that it will use a data key: some languages' integers end there.
const maxUses = 1<<31 - 1

// securityModel tells a client how to encrypt.
type securityModel struct {
	Algorithm     string `json:"algorithm"` // in capitals: one library compares it exactly
	Fragmentation bool   `json:"enable_data_fragmentation"`
}

// decryptionAnswer gives a data key back. Fingerprint and session are hex: clients put them into paths as they are.
type decryptionAnswer struct {
	PrivateKey  string `json:"encrypted_private_key"`
	Session     string `json:"encryption_session"`
	Fingerprint string `json:"key_fingerprint"`
	Wrapped     []byte `json:"wrapped_data_key"`
}

// encryptionAnswer hands a new data key out.
type encryptionAnswer struct {
	decryptionAnswer
	Encrypted []byte        `json:"encrypted_data_key"`
	MaxUses   int           `json:"max_uses"`
	Model     securityModel `json:"security_model"`
}

// key is the data key as the domain has it.
func (a decryptionAnswer) key() keys.ReleasedKey {
	return keys.ReleasedKey{PrivateKeyPEM: []byte(a.PrivateKey), Session: a.Session, Fingerprint: a.Fingerprint, Wrapped: a.Wrapped}
}

// encryptionRequest asks for a new data key, and says for how many encryptions it is.
type encryptionRequest struct {
	Uses int `json:"uses"`
}

// decryptionRequest asks for a data key back, in base64.
type decryptionRequest struct {
	Encrypted string `json:"encrypted_data_key"`
}

func released(k keys.ReleasedKey) decryptionAnswer {
	return decryptionAnswer{string(k.PrivateKeyPEM), k.Session, k.Fingerprint, k.Wrapped}
}

// encryptionKey answers POST /api/v0/encryption/key.
func (s *Server) encryptionKey(c call) (answer, error) {
	var in encryptionRequest
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	uses := min(max(in.Uses, 1), maxUses)
	k, err := s.Plane.NewDataKey(c.Context(), c.claim, uses)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, encryptionAnswer{released(k), k.Encrypted, uses, securityModel{Algorithm: k.Algorithm}}}, nil
}

// decryptionKey answers POST /api/v0/decryption/key.
func (s *Server) decryptionKey(c call) (answer, error) {
	var in decryptionRequest
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	encrypted, err := base64.StdEncoding.DecodeString(in.Encrypted)
	if err != nil {
		return answer{}, fault.New(fault.Invalid, "the encrypted data key is not base64")
	}
	k, err := s.Plane.OpenDataKey(c.Context(), c.claim, encrypted)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, released(k)}, nil
}

// reported answers both PATCH routes, with which a library tells how often it used a data key. How often data was encrypted and
// decrypted is told again, with more detail, by its tracking events, so this only has to be a valid credential's.
func (s *Server) reported(c call) (answer, error) {
	if !isHex(c.PathValue("fingerprint")) || !isHex(c.PathValue("session")) {
		return answer{}, fault.New(fault.Invalid, "the path does not name a data key")
	}
	var in struct{}
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	_, err := s.Plane.Enter(c.Context(), c.claim, "")
	return answer{http.StatusNoContent, nil}, err
}

func isHex(text string) bool {
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return text != "" && len(text) <= 128
}
