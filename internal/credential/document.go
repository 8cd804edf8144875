package credential

import (
	"encoding/json"
	"log/slog"
	"time"
)

// Document is a credential as the JSON object that "--format json" and "-o json" print, secrets in the clear. Marshalling
// a Document is the one way to get them into JSON; a Credential or a Secret on its own comes out masked, and so does a
// Document that is formatted or logged. Previous is what a roll adds.
type Document struct {
	Credential Credential
	Previous   *Previous
}

// Previous is what becomes of the old credential after a roll. Until is the end of its life, and Clamped tells that the
// key's own end made it shorter than was asked for.
type Previous struct {
	AccessKeyID string    `json:"access_key_id"`
	Until       time.Time `json:"until"`
	Clamped     bool      `json:"clamped"`
}

// MarshalJSON writes name, access_key_id, secret_signing_key, secret_crypto_access_key, server (null when unknown),
// datasets (never null) and, after a roll only, previous with its time in RFC 3339 UTC.
func (d Document) MarshalJSON() ([]byte, error) {
	v := d.Credential.values()
	document := struct {
		Name            string    `json:"name"`
		AccessKeyID     string    `json:"access_key_id"`
		SigningKey      string    `json:"secret_signing_key"`
		CryptoAccessKey string    `json:"secret_crypto_access_key"`
		Server          *string   `json:"server"`
		Datasets        []string  `json:"datasets"`
		Previous        *Previous `json:"previous,omitempty"`
	}{
		Name:            d.Credential.Name,
		AccessKeyID:     v[accessKeyID],
		SigningKey:      v[signingKey],
		CryptoAccessKey: v[cryptoAccessKey],
		Datasets:        append([]string{}, d.Credential.Datasets...),
	}
	if v[server] != "" {
		document.Server = &v[server]
	}
	if d.Previous != nil {
		previous := *d.Previous
		previous.Until = previous.Until.UTC()
		document.Previous = &previous
	}
	return json.Marshal(document)
}

// LogValue keeps structured logs from marshalling the document.
func (d Document) LogValue() slog.Value { return slog.StringValue(redacted) }
