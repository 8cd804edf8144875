package httpapi

import (
	"context"
	"net/http"
	"net/netip"

	"keyctl/internal/access"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// KeyPath is the key that a path names. It is exported, as all that inputs embed, for the router's library to see it.
type KeyPath struct {
	Key string `path:"key" doc:"a name, an access key id, a key's id, or the unique beginning of an id"`
}

// CredentialPath is the credential that a path names.
type CredentialPath struct {
	AccessKeyID string `path:"access_key_id"`
}

// PageQuery pages a list.
type PageQuery struct {
	Cursor string `query:"cursor" doc:"the next_cursor of the page before"`
	Limit  int    `query:"limit" doc:"at most this many, up to 1000"`
}

// keysQuery filters the list of keys.
type keysQuery struct {
	States        []string `query:"state,explode"`
	Dataset       string   `query:"dataset"`
	Labels        []string `query:"label,explode" doc:"name=value"`
	NameGlob      string   `query:"name" doc:"a pattern such as web-*"`
	UnusedFor     string   `query:"unused_for" doc:"a duration such as 720h"`
	NeverUsed     bool     `query:"never_used"`
	ExpiresWithin string   `query:"expires_within"`
	OlderThan     string   `query:"older_than"`
	InGrace       bool     `query:"in_grace"`
	Order         string   `query:"order" doc:"name, created, expires or last-used"`
	Descending    bool     `query:"descending"`
	PageQuery
}

func keyFilterToWire(f keys.KeyFilter) keysQuery {
	q := keysQuery{
		Dataset: f.Dataset, Labels: labelTexts(f.Labels), NameGlob: f.NameGlob, UnusedFor: durationText(f.UnusedFor),
		NeverUsed: f.NeverUsed, ExpiresWithin: durationText(f.ExpiresWithin), OlderThan: durationText(f.OlderThan), InGrace: f.InGrace,
		Order: string(f.Order), Descending: f.Descending, PageQuery: PageQuery{f.Cursor, f.Limit},
	}
	for _, s := range f.States {
		q.States = append(q.States, string(s))
	}
	return q
}

func (q keysQuery) filter() (keys.KeyFilter, error) {
	f := keys.KeyFilter{
		Dataset: q.Dataset, NameGlob: q.NameGlob, NeverUsed: q.NeverUsed, InGrace: q.InGrace, Order: keys.KeyOrder(q.Order),
		Descending: q.Descending, Cursor: q.Cursor, Limit: q.Limit,
	}
	for _, s := range q.States {
		f.States = append(f.States, keys.KeyState(s))
	}
	var err error
	if f.Labels, err = labelsOf(q.Labels); err != nil {
		return f, err
	}
	if f.UnusedFor, err = parseDuration("unused_for", q.UnusedFor); err != nil {
		return f, err
	}
	if f.ExpiresWithin, err = parseDuration("expires_within", q.ExpiresWithin); err != nil {
		return f, err
	}
	f.OlderThan, err = parseDuration("older_than", q.OlderThan)
	return f, err
}

var keysShow = define("keys.show", http.MethodGet, "/v1/keys/{key}", access.KeysRead, reads, "Show a key",
	func(ctx context.Context, s keys.Service, in *KeyPath) (keys.KeyView, error) {
		return s.Key(ctx, in.Key)
	})

// Key implements keys.Service.
func (c *Client) Key(ctx context.Context, ref string) (keys.KeyView, error) {
	return keysShow.on(ctx, c, KeyPath{ref})
}

var keysList = define("keys.list", http.MethodGet, "/v1/keys", access.KeysRead, reads, "List keys",
	func(ctx context.Context, s keys.Service, in *keysQuery) (keys.Page[keys.KeyView], error) {
		filter, err := in.filter()
		if err != nil {
			return keys.Page[keys.KeyView]{}, err
		}
		return s.Keys(ctx, filter)
	})

// Keys implements keys.Service.
func (c *Client) Keys(ctx context.Context, filter keys.KeyFilter) (keys.Page[keys.KeyView], error) {
	return keysList.on(ctx, c, keyFilterToWire(filter))
}

type newKeyInput struct{ Body newKeyBody }

var keysCreate = define("keys.create", http.MethodPost, "/v1/keys", access.KeysCreate, harmless,
	"Create a key whose credential the caller drew; a proof activates it",
	func(ctx context.Context, s keys.Service, in *newKeyInput) (pendingBody, error) {
		request, err := in.Body.request()
		if err != nil {
			return pendingBody{}, err
		}
		pending, err := s.CreateKey(ctx, request)
		return pendingBody(pending), err
	})

// CreateKey implements keys.Service.
func (c *Client) CreateKey(ctx context.Context, request keys.NewKey) (keys.Pending, error) {
	pending, err := keysCreate.on(ctx, c, newKeyInput{newKeyToWire(request)})
	return keys.Pending(pending), err
}

type checkKeysInput struct {
	Body struct {
		Requests []newKeyBody `json:"requests"`
	}
}

// checkedKeys has one entry for each request: null where it would succeed.
type checkedKeys struct {
	Errors []*FailureDetail `json:"errors"`
}

var keysCheck = define("keys.check", http.MethodPost, "/v1/keys/check", access.KeysCreate, reads,
	"Tell which keys could be created; changes nothing",
	func(ctx context.Context, s keys.Service, in *checkKeysInput) (checkedKeys, error) {
		requests := make([]keys.NewKey, len(in.Body.Requests))
		for i, b := range in.Body.Requests {
			var err error
			if requests[i], err = b.request(); err != nil {
				return checkedKeys{}, err
			}
		}
		errs, err := s.CheckKeys(ctx, requests)
		if err != nil {
			return checkedKeys{}, err
		}
		out := checkedKeys{make([]*FailureDetail, len(errs))}
		for i, err := range errs {
			if err != nil {
				out.Errors[i] = &NewFailure(err, guestOf(ctx).from.RequestID).Detail
			}
		}
		return out, nil
	})

// CheckKeys implements keys.Service. A list that does not fit into one request is sent in parts.
func (c *Client) CheckKeys(ctx context.Context, requests []keys.NewKey) ([]error, error) {
	errs := make([]error, 0, len(requests))
	var in checkKeysInput
	send := func() error {
		out, err := keysCheck.on(ctx, c, in)
		if err != nil {
			return err
		}
		if len(out.Errors) != len(in.Body.Requests) {
			return c.strange("as many answers as there were questions")
		}
		for _, d := range out.Errors {
			if d == nil {
				errs = append(errs, nil)
			} else {
				errs = append(errs, d.fault())
			}
		}
		in.Body.Requests = nil
		return nil
	}
	size := 0
	for _, r := range requests {
		b := newKeyToWire(r)
		n := sizeOf(b)
		if size += n; size > MaxBody/2 && len(in.Body.Requests) > 0 {
			if err := send(); err != nil {
				return nil, err
			}
			size = n
		}
		in.Body.Requests = append(in.Body.Requests, b)
	}
	if len(in.Body.Requests) > 0 {
		if err := send(); err != nil {
			return nil, err
		}
	}
	return errs, nil
}

// existingKey is a key and in what it differs from a request.
type existingKey struct {
	Key         keys.KeyView `json:"key"`
	Differences []string     `json:"differences"`
}

var keysExisting = define("keys.existing", http.MethodPost, "/v1/keys/existing", access.KeysRead, reads,
	"Find the key that an earlier provisioning made, and in what it differs",
	func(ctx context.Context, s keys.Service, in *newKeyInput) (existingKey, error) {
		request, err := in.Body.request()
		if err != nil {
			return existingKey{}, err
		}
		key, differences, err := s.ExistingKey(ctx, request)
		return existingKey{key, differences}, err
	})

// ExistingKey implements keys.Service.
func (c *Client) ExistingKey(ctx context.Context, request keys.NewKey) (keys.KeyView, []string, error) {
	out, err := keysExisting.on(ctx, c, newKeyInput{newKeyToWire(request)})
	return out.Key, out.Differences, err
}

var credentialsPending = define("credentials.pending", http.MethodGet, "/v1/credentials/{access_key_id}/pending", access.KeysCreate, reads,
	"Show what must be proven for a credential",
	func(ctx context.Context, s keys.Service, in *CredentialPath) (pendingBody, error) {
		pending, err := s.Pending(ctx, in.AccessKeyID)
		return pendingBody(pending), err
	})

// Pending implements keys.Service.
func (c *Client) Pending(ctx context.Context, accessKeyID string) (keys.Pending, error) {
	pending, err := credentialsPending.on(ctx, c, CredentialPath{accessKeyID})
	return keys.Pending(pending), err
}

type proveInput struct {
	CredentialPath
	Body struct {
		Proof []byte `json:"proof,omitempty" doc:"HMAC-SHA-256 under the secret signing key: docs/http-api.md"`
	}
}

var credentialsProve = define("credentials.prove", http.MethodPost, "/v1/credentials/{access_key_id}/prove", access.KeysCreate, harmless,
	"Prove possession of a credential, which activates it",
	func(ctx context.Context, s keys.Service, in *proveInput) (provenBody, error) {
		proven, err := s.Prove(ctx, in.AccessKeyID, in.Body.Proof)
		return provenBody(proven), err
	})

// Prove implements keys.Service.
func (c *Client) Prove(ctx context.Context, accessKeyID string, proof []byte) (keys.Proven, error) {
	in := proveInput{CredentialPath: CredentialPath{accessKeyID}}
	in.Body.Proof = proof
	proven, err := credentialsProve.on(ctx, c, in)
	return keys.Proven(proven), err
}

var credentialsWithdraw = define("credentials.withdraw", http.MethodPost, "/v1/credentials/{access_key_id}/withdraw", access.KeysCreate, harmless,
	"End a pending credential that could not be delivered",
	func(ctx context.Context, s keys.Service, in *CredentialPath) (nothing, error) {
		return nothing{}, s.Withdraw(ctx, in.AccessKeyID)
	})

// Withdraw implements keys.Service.
func (c *Client) Withdraw(ctx context.Context, accessKeyID string) error {
	_, err := credentialsWithdraw.on(ctx, c, CredentialPath{accessKeyID})
	return err
}

type keyEditInput struct {
	KeyPath
	Body keyEditBody
}

var keysEdit = define("keys.edit", http.MethodPatch, "/v1/keys/{key}", access.KeysEdit, counts, "Change a key",
	func(ctx context.Context, s keys.Service, in *keyEditInput) (keys.KeyView, error) {
		edit, err := in.Body.edit()
		if err != nil {
			return keys.KeyView{}, err
		}
		return s.EditKey(ctx, in.Key, edit)
	})

// EditKey implements keys.Service.
func (c *Client) EditKey(ctx context.Context, ref string, edit keys.KeyEdit) (keys.KeyView, error) {
	return keysEdit.on(ctx, c, keyEditInput{KeyPath{ref}, keyEditToWire(edit)})
}

// shutOut are the addresses that an edit would shut out.
type shutOut struct {
	Addresses []netip.Addr `json:"addresses"`
}

var keysCheckEdit = define("keys.check-edit", http.MethodPost, "/v1/keys/{key}/check-edit", access.KeysEdit, reads,
	"Tell whether a change could be made, and whom it would shut out; changes nothing",
	func(ctx context.Context, s keys.Service, in *keyEditInput) (shutOut, error) {
		edit, err := in.Body.edit()
		if err != nil {
			return shutOut{}, err
		}
		addresses, err := s.CheckEdit(ctx, in.Key, edit)
		return shutOut{addresses}, err
	})

// CheckEdit implements keys.Service.
func (c *Client) CheckEdit(ctx context.Context, ref string, edit keys.KeyEdit) ([]netip.Addr, error) {
	out, err := keysCheckEdit.on(ctx, c, keyEditInput{KeyPath{ref}, keyEditToWire(edit)})
	return out.Addresses, err
}

var keysEnable = define("keys.enable", http.MethodPost, "/v1/keys/{key}/enable", access.KeysEdit, counts, "Enable a key",
	func(ctx context.Context, s keys.Service, in *KeyPath) (keys.KeyView, error) {
		return s.EnableKey(ctx, in.Key)
	})

// EnableKey implements keys.Service.
func (c *Client) EnableKey(ctx context.Context, ref string) (keys.KeyView, error) {
	return keysEnable.on(ctx, c, KeyPath{ref})
}

type disableInput struct {
	KeyPath
	Body struct {
		Compromised bool `json:"compromised,omitempty" doc:"for good"`
	}
}

var keysDisable = define("keys.disable", http.MethodPost, "/v1/keys/{key}/disable", access.KeysDisable, harmless, "Disable a key, at once",
	func(ctx context.Context, s keys.Service, in *disableInput) (keys.KeyView, error) {
		return s.DisableKey(ctx, in.Key, in.Body.Compromised)
	})

// DisableKey implements keys.Service.
func (c *Client) DisableKey(ctx context.Context, ref string, compromised bool) (keys.KeyView, error) {
	in := disableInput{KeyPath: KeyPath{ref}}
	in.Body.Compromised = compromised
	return keysDisable.on(ctx, c, in)
}

var keysDelete = define("keys.delete", http.MethodDelete, "/v1/keys/{key}", access.KeysDelete, counts, "Delete a key for good",
	func(ctx context.Context, s keys.Service, in *KeyPath) (keys.KeyView, error) {
		return s.DeleteKey(ctx, in.Key)
	})

// DeleteKey implements keys.Service. A name may belong to another key after a lost answer, so it is made an id first, by
// which the request can be repeated.
func (c *Client) DeleteKey(ctx context.Context, ref string) (keys.KeyView, error) {
	key, err := c.Key(ctx, ref)
	if err != nil {
		return key, err
	}
	return keysDelete.repeatedly(ctx, c, KeyPath{key.ID})
}

type checkRollInput struct {
	KeyPath
	Body struct {
		Terms *TermsBody `json:"terms,omitempty"`
	}
}

var rollCheck = define("keys.check-roll", http.MethodPost, "/v1/keys/{key}/check-roll", access.KeysRoll, reads,
	"Tell whether a key could be rolled; changes nothing and wants no code",
	func(ctx context.Context, s keys.Service, in *checkRollInput) (keys.KeyView, error) {
		if in.Body.Terms == nil {
			return s.CheckRoll(ctx, in.Key, nil)
		}
		terms, err := in.Body.Terms.terms()
		if err != nil {
			return keys.KeyView{}, err
		}
		return s.CheckRoll(ctx, in.Key, &terms)
	})

// CheckRoll implements keys.Service.
func (c *Client) CheckRoll(ctx context.Context, ref string, terms *keys.RollTerms) (keys.KeyView, error) {
	in := checkRollInput{KeyPath: KeyPath{ref}}
	if terms != nil {
		wire := termsToWire(*terms)
		in.Body.Terms = &wire
	}
	return rollCheck.on(ctx, c, in)
}

type rollInput struct {
	KeyPath
	Body struct {
		TermsBody
		Offer offerBody `json:"credential"`
		Code  string    `json:"code,omitempty" doc:"an authenticator code"`
	}
}

var keysRoll = define("keys.roll", http.MethodPost, "/v1/keys/{key}/roll", access.KeysRoll, harmless,
	"Make a successor to a key's credential; a proof puts it in force",
	func(ctx context.Context, s keys.Service, in *rollInput) (pendingBody, error) {
		terms, err := in.Body.terms()
		if err != nil {
			return pendingBody{}, err
		}
		pending, err := s.Roll(ctx, keys.RollRequest{Key: in.Key, Terms: terms, Offer: in.Body.Offer.offer(), Code: in.Body.Code})
		return pendingBody(pending), err
	})

// Roll implements keys.Service.
func (c *Client) Roll(ctx context.Context, request keys.RollRequest) (keys.Pending, error) {
	in := rollInput{KeyPath: KeyPath{request.Key}}
	in.Body.TermsBody, in.Body.Offer, in.Body.Code = termsToWire(request.Terms), offerToWire(request.Offer), request.Code
	pending, err := keysRoll.on(ctx, c, in)
	return keys.Pending(pending), err
}

var rollsList = define("rolls.list", http.MethodGet, "/v1/rolls", access.KeysRead, reads, "List the rolls whose old credential still works",
	func(ctx context.Context, s keys.Service, in *PageQuery) (keys.Page[keys.RollView], error) {
		return s.Rolls(ctx, in.Cursor, in.Limit)
	})

// Rolls implements keys.Service.
func (c *Client) Rolls(ctx context.Context, cursor string, limit int) (keys.Page[keys.RollView], error) {
	return rollsList.on(ctx, c, PageQuery{cursor, limit})
}

var rollsShow = define("rolls.show", http.MethodGet, "/v1/keys/{key}/roll", access.KeysRead, reads, "Show a key's last roll",
	func(ctx context.Context, s keys.Service, in *KeyPath) (keys.RollView, error) {
		return s.RollOf(ctx, in.Key)
	})

// RollOf implements keys.Service.
func (c *Client) RollOf(ctx context.Context, ref string) (keys.RollView, error) {
	return rollsShow.on(ctx, c, KeyPath{ref})
}

type extendInput struct {
	KeyPath
	Body struct {
		Grace graceBody `json:"grace"`
		Code  string    `json:"code,omitempty" doc:"an authenticator code, for a later end"`
	}
}

var rollsExtend = define("rolls.extend", http.MethodPost, "/v1/keys/{key}/roll/extend", access.KeysRoll, counts,
	"Give the old credential another end",
	func(ctx context.Context, s keys.Service, in *extendInput) (keys.RollView, error) {
		grace, err := in.Body.Grace.grace()
		if err != nil {
			return keys.RollView{}, err
		}
		return s.ExtendRoll(ctx, in.Key, grace, in.Body.Code)
	})

// ExtendRoll implements keys.Service.
func (c *Client) ExtendRoll(ctx context.Context, ref string, grace keys.Grace, code string) (keys.RollView, error) {
	in := extendInput{KeyPath: KeyPath{ref}}
	in.Body.Grace, in.Body.Code = graceToWire(grace), code
	return rollsExtend.on(ctx, c, in)
}

var rollsFinish = define("rolls.finish", http.MethodPost, "/v1/keys/{key}/roll/finish", access.KeysRoll, harmless, "End the old credential now",
	func(ctx context.Context, s keys.Service, in *KeyPath) (keys.RollView, error) {
		return s.FinishRoll(ctx, in.Key)
	})

// FinishRoll implements keys.Service.
func (c *Client) FinishRoll(ctx context.Context, ref string) (keys.RollView, error) {
	return rollsFinish.on(ctx, c, KeyPath{ref})
}

// codeBody is an authenticator code.
type codeBody struct {
	Code string `json:"code,omitempty" doc:"an authenticator code"`
}

type cancelInput struct {
	KeyPath
	Body codeBody
}

var rollsCancel = define("rolls.cancel", http.MethodPost, "/v1/keys/{key}/roll/cancel", access.KeysRoll, counts,
	"End the new credential and make the old one current again",
	func(ctx context.Context, s keys.Service, in *cancelInput) (keys.KeyView, error) {
		return s.CancelRoll(ctx, in.Key, in.Body.Code)
	})

// CancelRoll implements keys.Service.
func (c *Client) CancelRoll(ctx context.Context, ref string, code string) (keys.KeyView, error) {
	return rollsCancel.on(ctx, c, cancelInput{KeyPath{ref}, codeBody{code}})
}

type usageInput struct {
	Key     string `query:"key" doc:"only of this key: a name, an access key id, a key's id or the beginning of one"`
	Dataset string `query:"dataset" doc:"only in this dataset"`
	Since   string `query:"since" doc:"only on the day of this instant and later (RFC 3339)"`
}

var usage = define("usage", http.MethodGet, "/v1/usage", access.KeysRead, reads,
	"Tell how often keys were used, as client libraries told",
	func(ctx context.Context, s keys.Service, in *usageInput) (all[keys.UsageView], error) {
		since, err := parseTime("since", in.Since)
		if err != nil {
			return all[keys.UsageView]{}, err
		}
		items, err := s.Usage(ctx, keys.UsageQuery{Key: in.Key, Dataset: in.Dataset, Since: since})
		return all[keys.UsageView]{items}, err
	})

// Usage implements keys.Service.
func (c *Client) Usage(ctx context.Context, q keys.UsageQuery) ([]keys.UsageView, error) {
	out, err := usage.on(ctx, c, usageInput{q.Key, q.Dataset, timeText(q.Since)})
	return out.Items, err
}

type verifyInput struct{ Body questionBody }

var verify = define("verify", http.MethodPost, "/v1/verify", access.Verify, reads,
	"Tell whether a key or credential would be let in, and why",
	func(ctx context.Context, s keys.Service, in *verifyInput) (verdictBody, error) {
		question, err := in.Body.question()
		if err != nil {
			return verdictBody{}, err
		}
		verdict, err := s.Verify(ctx, question)
		return verdictBody{verdict, verdict.PrivateKeyPEM}, err
	})

type verifyManyInput struct {
	Body struct {
		Questions []questionBody `json:"questions" minItems:"1" maxItems:"100" doc:"as for /v1/verify"`
	}
}

// verdictsBody has the answers in the order of the questions.
type verdictsBody struct {
	Verdicts []verdictBody `json:"verdicts"`
}

var verifyMany = define("verify.many", http.MethodPost, "/v1/verify/many", access.Verify, reads,
	"Tell of up to 100 keys or credentials whether each would be let in",
	func(ctx context.Context, s keys.Service, in *verifyManyInput) (verdictsBody, error) {
		out := verdictsBody{Verdicts: make([]verdictBody, len(in.Body.Questions))}
		for i, b := range in.Body.Questions {
			question, err := b.question()
			if err != nil {
				return out, ofQuestion(i, err)
			}
			verdict, err := s.Verify(ctx, question)
			if err != nil {
				return out, ofQuestion(i, err)
			}
			out.Verdicts[i] = verdictBody{verdict, verdict.PrivateKeyPEM}
		}
		return out, nil
	})

// VerifyMany is Verify of up to 100 questions in one request; the verdicts have their order. Its errors are those of the first
// question that has one.
func (c *Client) VerifyMany(ctx context.Context, questions []keys.Question) ([]keys.Verdict, error) {
	var in verifyManyInput
	for i, q := range questions {
		b, err := questionToWire(q)
		if err != nil {
			return nil, ofQuestion(i, err)
		}
		in.Body.Questions = append(in.Body.Questions, b)
	}
	out, err := verifyMany.on(ctx, c, in)
	verdicts := make([]keys.Verdict, len(out.Verdicts))
	for i, v := range out.Verdicts {
		verdicts[i], verdicts[i].PrivateKeyPEM = v.Verdict, v.PrivateKeyPEM
	}
	return verdicts, err
}

// ofQuestion tells which of many questions could not be answered.
func ofQuestion(i int, err error) error {
	f := fault.From(err)
	if f == nil {
		return err
	}
	return fault.New(f.Code, "question %d: %s", i+1, f.Message).WithHint("%s", f.Hint).WithCause(err)
}

// Verify implements keys.Service.
func (c *Client) Verify(ctx context.Context, question keys.Question) (keys.Verdict, error) {
	b, err := questionToWire(question)
	if err != nil {
		return keys.Verdict{}, err
	}
	out, err := verify.on(ctx, c, verifyInput{b})
	out.Verdict.PrivateKeyPEM = out.PrivateKeyPEM
	return out.Verdict, err
}

// strange is the error for an answer that no keyctl server gives.
func (c *Client) strange(wanted string) *fault.Error {
	return fault.New(fault.Unavailable, "the answer of %s is not what a keyctl server answers", c.place()).
		WithHint("expected %s; is the address that of `keyctl serve`?", wanted)
}
