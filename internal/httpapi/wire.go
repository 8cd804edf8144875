package httpapi

import (
	"bytes"
	"cmp"
	"crypto/sha512"
	"encoding/json"
	"net/http"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/audit"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/signature"
	"keyctl/internal/structured"
)

// The forms of requests and answers that are not those of package keys already. Secrets are plain text here: this is the
// wire they have to cross, once, over TLS.

// textTypes are types that travel as other types.
var textTypes = map[reflect.Type]reflect.Type{
	reflect.TypeFor[iprange.List](): reflect.TypeFor[[]string](),
	reflect.TypeFor[netip.Addr]():   reflect.TypeFor[string](),
	// Whose fields may be null where others are text.
	reflect.TypeFor[structured.Format](): reflect.TypeFor[json.RawMessage](),
}

// never is the text of an end that does not come.
const never = "never"

// offerBody is the part of a freshly drawn credential that a store may know. The secret crypto access key stays with who
// drew it.
type offerBody struct {
	AccessKeyID   string `json:"access_key_id" doc:"drawn by the caller: KC and 22 letters and digits. The same again is the same request"`
	SigningKey    string `json:"secret_signing_key" doc:"drawn by the caller: kcs_ and 49 letters and digits"`
	PublicKey     []byte `json:"public_key" doc:"RSA-2048, SubjectPublicKeyInfo in DER"`
	PrivateKeyPEM []byte `json:"encrypted_private_key" doc:"PKCS #8 in PEM, encrypted under the secret crypto access key"`
}

func offerToWire(o keys.Offer) offerBody {
	return offerBody{o.AccessKeyID, o.SigningKey.Reveal(), o.PublicKey, o.PrivateKeyPEM}
}

func (b offerBody) offer() keys.Offer {
	return keys.Offer{
		AccessKeyID: b.AccessKeyID, SigningKey: credential.NewSecret(b.SigningKey),
		Material: keys.Material{PublicKey: b.PublicKey, PrivateKeyPEM: b.PrivateKeyPEM},
	}
}

// newKeyBody asks for a key.
type newKeyBody struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	IPRanges    []string          `json:"ip_ranges,omitempty" doc:"none: any address"`
	Datasets    []string          `json:"datasets,omitempty"`
	ExpiresAt   *time.Time        `json:"expires_at,omitempty"`
	Offer       *offerBody        `json:"credential,omitempty"`
}

func newKeyToWire(r keys.NewKey) newKeyBody {
	b := newKeyBody{
		Name: r.Name, Description: r.Description, Labels: r.Labels, IPRanges: r.IPRanges.Strings(), Datasets: r.Datasets,
		ExpiresAt: optional(r.ExpiresAt),
	}
	if r.Offer.AccessKeyID != "" {
		offer := offerToWire(r.Offer)
		b.Offer = &offer
	}
	return b
}

func (b newKeyBody) request() (keys.NewKey, error) {
	r := keys.NewKey{
		Name: b.Name, Description: b.Description, Labels: b.Labels, Datasets: b.Datasets, ExpiresAt: orZero(b.ExpiresAt),
	}
	if b.Offer != nil {
		r.Offer = b.Offer.offer()
	}
	var err error
	r.IPRanges, err = iprange.ParseList(b.IPRanges)
	return r, err
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// pendingBody is a credential that waits for its proof.
type pendingBody struct {
	KeyID       string               `json:"key_id"`
	Name        string               `json:"name"`
	AccessKeyID string               `json:"access_key_id"`
	Generation  int                  `json:"generation"`
	Challenge   []byte               `json:"challenge" doc:"what the proof is computed over"`
	Until       time.Time            `json:"until" doc:"the proof must come before this"`
	Proven      bool                 `json:"proven" doc:"it came already"`
	Datasets    []string             `json:"datasets"`
	Previous    *credential.Previous `json:"previous" doc:"for a roll: what becomes of the old credential"`
}

// provenBody is the answer to a proof.
type provenBody struct {
	Key      keys.KeyView         `json:"key"`
	Previous *credential.Previous `json:"previous"`
}

// keyEditBody changes a key; what is left out stays.
type keyEditBody struct {
	Name         *string           `json:"name,omitempty"`
	Description  *string           `json:"description,omitempty"`
	ExpiresAt    *string           `json:"expires_at,omitempty" doc:"RFC 3339, or never"`
	IPRanges     *[]string         `json:"ip_ranges,omitempty" doc:"in place of those there are"`
	AddRanges    []string          `json:"add_ip_ranges,omitempty"`
	RemoveRanges []string          `json:"remove_ip_ranges,omitempty"`
	AnyAddress   bool              `json:"any_address,omitempty" doc:"lift the limit to addresses"`
	SetLabels    map[string]string `json:"set_labels,omitempty"`
	RemoveLabels []string          `json:"remove_labels,omitempty"`
}

func keyEditToWire(e keys.KeyEdit) keyEditBody {
	b := keyEditBody{
		Name: e.Name, Description: e.Description, AddRanges: prefixTexts(e.AddRanges), RemoveRanges: prefixTexts(e.RemoveRanges),
		AnyAddress: e.AnyAddress, SetLabels: e.SetLabels, RemoveLabels: e.RemoveLabels,
	}
	if e.IPRanges != nil {
		texts := e.IPRanges.Strings()
		b.IPRanges = &texts
	}
	if e.ExpiresAt != nil {
		text := never
		if !e.ExpiresAt.IsZero() {
			text = e.ExpiresAt.Format(time.RFC3339Nano)
		}
		b.ExpiresAt = &text
	}
	return b
}

func (b keyEditBody) edit() (keys.KeyEdit, error) {
	e := keys.KeyEdit{
		Name: b.Name, Description: b.Description, AnyAddress: b.AnyAddress, SetLabels: b.SetLabels, RemoveLabels: b.RemoveLabels,
	}
	var err error
	if b.IPRanges != nil {
		list, err := iprange.ParseList(*b.IPRanges)
		if err != nil {
			return e, err
		}
		e.IPRanges = &list
	}
	if b.ExpiresAt != nil {
		expires := time.Time{}
		if *b.ExpiresAt != never {
			if expires, err = parseTime("expires_at", *b.ExpiresAt); err != nil {
				return e, err
			}
		}
		e.ExpiresAt = &expires
	}
	if e.AddRanges, err = parsePrefixes(b.AddRanges); err != nil {
		return e, err
	}
	e.RemoveRanges, err = parsePrefixes(b.RemoveRanges)
	return e, err
}

func prefixTexts(prefixes []netip.Prefix) []string {
	var texts []string
	for _, p := range prefixes {
		texts = append(texts, p.String())
	}
	return texts
}

func parsePrefixes(texts []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, text := range texts {
		prefix, err := iprange.Parse(text)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}

// parseTime reads an instant; empty is none.
func parseTime(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, fault.New(fault.Invalid, "%s is no time", field).WithHint("write it as 2027-01-31T12:00:00Z (RFC 3339)")
	}
	return t.UTC(), nil
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// parseDuration reads a duration; empty is none.
func parseDuration(field, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fault.New(fault.Invalid, "%s is no duration", field).WithHint("write it as 24h or 1h30m")
	}
	return d, nil
}

func durationText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// graceBody says when a rolled credential stops working: a time after the proof, or an instant.
type graceBody struct {
	For string     `json:"for,omitempty" doc:"after the proof, such as 24h"`
	At  *time.Time `json:"at,omitempty" doc:"or at this instant"`
}

func graceToWire(g keys.Grace) graceBody { return graceBody{durationText(g.For), optional(g.At)} }

func (b graceBody) grace() (keys.Grace, error) {
	d, err := parseDuration("for", b.For)
	return keys.Grace{For: d, At: orZero(b.At)}, err
}

// TermsBody are the conditions of a roll.
type TermsBody struct {
	Grace          graceBody `json:"grace"`
	FinishPrevious bool      `json:"finish_previous,omitempty" doc:"an earlier roll still in grace ends with this one"`
}

func termsToWire(t keys.RollTerms) TermsBody {
	return TermsBody{graceToWire(t.Grace), t.FinishPrevious}
}

func (b TermsBody) terms() (keys.RollTerms, error) {
	grace, err := b.Grace.grace()
	return keys.RollTerms{Grace: grace, FinishPrevious: b.FinishPrevious}, err
}

// newDatasetBody asks for a dataset.
type newDatasetBody struct {
	Name        string           `json:"name"`
	Description string           `json:"description,omitempty"`
	Type        keys.DatasetType `json:"type"`
	Algorithm   string           `json:"algorithm,omitempty"`
	Format      json.RawMessage  `json:"format,omitempty" doc:"of a structured dataset: all that client libraries know of it but its name and permissions, tweak and salt included"`
	PrimaryKey  string           `json:"primary_key,omitempty" doc:"of which it hangs; none: a new one"`
	FirstKey    *offerBody       `json:"first_key,omitempty" doc:"the credential of a first key; none: no key"`
}

func newDatasetToWire(r keys.NewDataset) (newDatasetBody, error) {
	b := newDatasetBody{Name: r.Name, Description: r.Description, Type: r.Type, Algorithm: r.Algorithm, PrimaryKey: r.PrimaryKey}
	if r.FirstKey != nil {
		offer := offerToWire(*r.FirstKey)
		b.FirstKey = &offer
	}
	var err error
	if r.Format != nil {
		b.Format, err = json.Marshal(r.Format)
	}
	return b, err
}

func (b newDatasetBody) request() (keys.NewDataset, error) {
	r := keys.NewDataset{Name: b.Name, Description: b.Description, Type: b.Type, Algorithm: b.Algorithm, PrimaryKey: b.PrimaryKey}
	if b.FirstKey != nil {
		offer := b.FirstKey.offer()
		r.FirstKey = &offer
	}
	if len(b.Format) == 0 || string(b.Format) == "null" {
		return r, nil
	}
	r.Format = &structured.Format{}
	decoder := json.NewDecoder(bytes.NewReader(b.Format))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(r.Format); err != nil {
		if f := fault.From(err); f != nil {
			return r, f
		}
		return r, fault.New(fault.Invalid, "the format is not the JSON that was expected").WithHint("`keyctl datasets show -o json` shows the format of one that is there")
	}
	return r, nil
}

// datasetMade is the answer to it.
type datasetMade struct {
	Dataset keys.DatasetView `json:"dataset"`
	Pending *pendingBody     `json:"first_key"`
}

// questionBody asks whether somebody would be let in.
type questionBody struct {
	Key         string      `json:"key,omitempty" doc:"a key; or a credential by the next two"`
	AccessKeyID string      `json:"access_key_id,omitempty"`
	SigningKey  string      `json:"secret_signing_key,omitempty"`
	Request     *signedBody `json:"request,omitempty" doc:"or a request that was signed as client libraries sign, in the place of the last two"`
	Address     string      `json:"address,omitempty"`
	Dataset     string      `json:"dataset,omitempty"`
	PrivateKey  bool        `json:"private_key,omitempty" doc:"answer the encrypted private key of a proven credential, too"`
}

// signedBody is a request that a gateway received.
type signedBody struct {
	Method        string            `json:"method" doc:"as it was sent, such as POST"`
	Target        string            `json:"target" doc:"path and query, byte for byte"`
	Host          string            `json:"host"`
	Headers       map[string]string `json:"headers" doc:"the headers that were signed, and Signature and Digest"`
	ContentLength int64             `json:"content_length,omitempty"`
	BodySHA512    []byte            `json:"body_sha512" doc:"of the body as it was received: 64 bytes"`
}

// maxSignedHeaders is how many headers a gateway hands over at most: the libraries sign seven.
const maxSignedHeaders = 32

func (b signedBody) signed() (*keys.SignedRequest, error) {
	if len(b.BodySHA512) != sha512.Size || len(b.Headers) > maxSignedHeaders {
		return nil, fault.New(fault.Invalid, "the request has a SHA-512 of its body, of %d bytes, and at most %d headers", sha512.Size, maxSignedHeaders)
	}
	r := &http.Request{Method: b.Method, RequestURI: b.Target, Host: b.Host, Header: http.Header{}, ContentLength: b.ContentLength}
	for name, value := range b.Headers {
		r.Header.Add(name, value)
	}
	if b.ContentLength > 0 { // what a server takes out of the headers it received
		r.Header.Set("Content-Length", strconv.FormatInt(b.ContentLength, 10))
	}
	parsed, err := signature.Parse(r)
	if err != nil { // no signature, or none that can be read: nobody's, whatever the caller of the gateway sent
		parsed = signature.Request{}
	}
	return &keys.SignedRequest{Request: parsed, Body: [sha512.Size]byte(b.BodySHA512)}, nil
}

// questionToWire fails with unsupported for a signed request, of which a Question has what is checked, and not what was sent.
func questionToWire(q keys.Question) (questionBody, error) {
	if q.Signed != nil {
		return questionBody{}, fault.New(fault.Unsupported, "a signed request is verified by whoever received it, or sent on as it came").
			WithHint("send its method, target, host and headers to /v1/verify")
	}
	b := questionBody{Key: q.Key, AccessKeyID: q.AccessKeyID, SigningKey: q.SigningKey.Reveal(), Dataset: q.Dataset, PrivateKey: q.PrivateKey}
	if q.Address.IsValid() {
		b.Address = q.Address.String()
	}
	return b, nil
}

func (b questionBody) question() (keys.Question, error) {
	q := keys.Question{Key: b.Key, AccessKeyID: b.AccessKeyID, SigningKey: credential.NewSecret(b.SigningKey), Dataset: b.Dataset, PrivateKey: b.PrivateKey}
	if b.Request != nil {
		if b.Key != "" || b.AccessKeyID != "" || b.SigningKey != "" {
			return q, fault.New(fault.Invalid, "a signed request names its credential itself").WithHint("leave out key, access_key_id and secret_signing_key")
		}
		signed, err := b.Request.signed()
		if err != nil {
			return q, err
		}
		q.AccessKeyID, q.Signed = cmp.Or(signed.KeyID, unsigned), signed
	}
	if b.Address == "" {
		return q, nil
	}
	address, err := netip.ParseAddr(b.Address) // any address may be asked about, also one that no range can have
	if err != nil {
		_, err = iprange.ParseAddr(b.Address)
	}
	q.Address = address
	return q, err
}

// unsigned is asked about where a request is not signed: nobody's credential.
const unsigned = "KC0000000000000000000000"

// verdictBody is the answer to it.
type verdictBody struct {
	keys.Verdict
	PrivateKeyPEM []byte `json:"encrypted_private_key,omitempty" doc:"of a credential whose signing key the question proved"`
}

// recordBody is a record of the audit log as it is stored.
type recordBody struct {
	Seq  int64  `json:"seq"`
	Body string `json:"body" doc:"the exact text that the MAC covers, itself JSON"`
	MAC  []byte `json:"mac"`
}

func recordToWire(r keys.AuditRecord) recordBody {
	return recordBody{r.Record.Seq, string(r.Record.Body), r.Record.MAC}
}

func (b recordBody) record() (keys.AuditRecord, error) {
	r := audit.Record{Seq: b.Seq, Body: []byte(b.Body), MAC: b.MAC}
	event, err := r.Event()
	return keys.AuditRecord{Event: event, Record: r}, err
}

// newTokenBody asks for a token.
type newTokenBody struct {
	Token       string     `json:"token" doc:"drawn by the caller: kct_ and 61 letters and digits. The same again is the same request"`
	Operator    string     `json:"operator,omitempty" doc:"whom it lets in; none: the caller"`
	Description string     `json:"description,omitempty"`
	Datasets    []string   `json:"datasets,omitempty" doc:"for a ci operator: what it creates keys for"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`
}

// newOperatorBody asks for an operator.
type newOperatorBody struct {
	Name string      `json:"name"`
	Role access.Role `json:"role" doc:"owner, admin, ci, auditor or verifier"`
	Code string      `json:"code,omitempty" doc:"an authenticator code, for an owner"`
}

// secretTexts writes secrets for the wire.
func secretTexts(secrets []credential.Secret) []string {
	texts := make([]string, len(secrets))
	for i, s := range secrets {
		texts[i] = s.Reveal()
	}
	return texts
}

func secretsOf(texts []string) []credential.Secret {
	secrets := make([]credential.Secret, len(texts))
	for i, t := range texts {
		secrets[i] = credential.NewSecret(t)
	}
	return secrets
}

// labelTexts writes labels as they stand in a query.
func labelTexts(labels map[string]string) []string {
	var texts []string
	for name, value := range labels {
		texts = append(texts, name+"="+value)
	}
	return texts
}

func labelsOf(texts []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, text := range texts {
		name, value, found := strings.Cut(text, "=")
		if !found {
			return nil, fault.New(fault.Invalid, "a label is written as name=value")
		}
		labels[name] = value
	}
	return labels, nil
}
