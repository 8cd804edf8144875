package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // as the libraries have it
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// The statements of the data plane. They read what each route has to know before it may answer: who asks, whether he may, and
// what he asks for.
const (
	selectVerify = `SELECT t.mac, t.expires_at, t.revoked_at, t.last_used_at, t.datasets, o.id, o.name, o.role, o.disabled_at, o.deleted_at,
		c.access_key_id, c.pending_until, COALESCE(c.ended_as, ''),
		c.key_id, c.proven_at, c.grace_until, c.ended_at, c.signing_key, c.last_used_at, k.name, k.ip_ranges,
		k.activated_at, k.expires_at, k.disabled_at, k.compromised_at, k.deleted_at
		FROM tokens AS t JOIN operators AS o ON o.id = t.operator_id, credentials AS c JOIN keys AS k ON k.id = c.key_id
		WHERE t.id = $1 AND c.access_key_id <= $2 AND c.signing_key IS NOT NULL ORDER BY c.access_key_id DESC LIMIT 1`
	selectPass = `SELECT c.key_id, c.proven_at, c.grace_until, c.ended_at, c.signing_key, c.last_used_at, k.name, k.ip_ranges,
		k.activated_at, k.expires_at, k.disabled_at, k.compromised_at, k.deleted_at, d.name
		FROM credentials AS c JOIN keys AS k ON k.id = c.key_id JOIN key_datasets AS kd ON kd.key_id = k.id
		JOIN datasets AS d ON d.id = kd.dataset_id WHERE c.access_key_id = $1`
	selectReach = `SELECT c.key_id, c.proven_at, c.grace_until, c.ended_at, c.signing_key, c.last_used_at, k.name, k.ip_ranges,
		k.activated_at, k.expires_at, k.disabled_at, k.compromised_at, k.deleted_at, m.public_key, m.private_key_pem,
		d.id, d.name, d.algorithm, COALESCE(d.format, ''), kd.may_encrypt, kd.may_decrypt, p.disabled_at, v.version, v.disabled_at, v.sealed
		FROM credentials AS c JOIN keys AS k ON k.id = c.key_id JOIN credential_material AS m ON m.access_key_id = c.access_key_id
		JOIN key_datasets AS kd ON kd.key_id = k.id JOIN datasets AS d ON d.id = kd.dataset_id JOIN primary_keys AS p ON p.id = d.primary_key_id
		JOIN primary_key_versions AS v ON v.primary_key_id = p.id WHERE c.access_key_id = $1 AND d.deleted_at IS NULL AND `
	selectRelease  = selectReach + `d.type = 'unstructured'`
	selectNamed    = selectReach + `d.name = $2`
	selectDataKeys = `SELECT number, sealed FROM data_keys WHERE dataset_id = $1 ORDER BY number`
)

// plane answers what applications ask: the same statements, HMACs and RSA-OAEP that this takes, and no more.
type plane struct {
	*server
	question, pass, release, named, dataKeys *sql.Stmt
	inserts                                  chan insert
	running                                  atomic.Int64 // requests that will have an insert
}

// serveDataPlane adds the routes of applications.
func (s *server) serveDataPlane(readers *sql.DB) error {
	p := &plane{server: s, inserts: make(chan insert, 128)}
	for query, into := range map[string]**sql.Stmt{
		selectVerify: &p.question, selectPass: &p.pass, selectRelease: &p.release, selectNamed: &p.named, selectDataKeys: &p.dataKeys,
	} {
		var err error
		if *into, err = readers.Prepare(query); err != nil {
			return err
		}
	}
	var last int64
	if err := readers.QueryRow(`SELECT seq FROM audit_head`).Scan(&last); err != nil {
		return err
	}
	go p.insertAll(last)
	http.HandleFunc("GET /v1/forward-auth", p.forwardAuth)
	http.HandleFunc("POST /v1/verify", answers(p.verify))
	http.HandleFunc("POST /api/v0/encryption/key", answers(p.encryptionKey))
	http.HandleFunc("GET /api/v0/fpe/def_keys", answers(p.defKeys))
	return nil
}

// row is what is selected of a credential.
type row struct {
	keyID, name, ranges                                                              string
	signingKey                                                                       []byte
	proven, grace, ended, used, activated, expires, disabled, compromised, deletedAt *int64
}

func (r *row) columns(more ...any) []any {
	return append([]any{&r.keyID, &r.proven, &r.grace, &r.ended, &r.signingKey, &r.used, &r.name, &r.ranges, &r.activated,
		&r.expires, &r.disabled, &r.compromised, &r.deletedAt}, more...)
}

// let stands for the decision: with a signing key that is sealed nothing compares equal, so that is passed over.
func (r *row) let(proof []byte) bool {
	_ = hmac.Equal(proof, r.signingKey[:min(len(proof), len(r.signingKey))])
	return r.proven != nil && r.ended == nil && r.disabled == nil && r.deletedAt == nil
}

func (p *plane) forwardAuth(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	rows, err := p.pass.Query(id)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer rows.Close()
	var c row
	var datasets []string
	for rows.Next() {
		var dataset string
		if err := rows.Scan(c.columns(&dataset)...); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		datasets = append(datasets, dataset)
	}
	if !c.let(p.mac([]byte(secret))) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("Keyctl-Key", c.name)
	w.Header().Set("Keyctl-Access-Key-Id", id)
	w.Header().Set("Keyctl-Datasets", strings.Join(datasets, ","))
}

type verdict struct {
	Allowed     bool   `json:"allowed"`
	Reason      string `json:"reason"`
	Key         string `json:"key"`
	AccessKeyID string `json:"access_key_id"`
	Credential  string `json:"credential"`
	Checked     bool   `json:"address_checked"`
}

func (p *plane) verify(r *http.Request) (verdict, error) {
	var q struct {
		AccessKeyID string `json:"access_key_id"`
		SigningKey  string `json:"secret_signing_key"`
		Address     string `json:"address"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		return verdict{}, err
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer kct_")
	var c row
	var t bearer
	var found, ended string
	var pending int64
	columns := t.columns(append([]any{&found, &pending, &ended}, c.columns()...)...)
	if err := p.question.QueryRow(token[:min(12, len(token))], q.AccessKeyID).Scan(columns...); err != nil {
		return verdict{}, err
	}
	if !hmac.Equal(p.mac([]byte(token)), t.mac) && t.role != "verifier" {
		return verdict{}, errors.New("not admitted")
	}
	return verdict{found == q.AccessKeyID && c.let([]byte(q.SigningKey)), "ok", c.name, q.AccessKeyID, "current", true}, nil
}

// bearer is what is selected of a token and its operator.
type bearer struct {
	mac                                         []byte
	datasets, operatorID, name, role            string
	expires, revoked, used, disabled, deletedAt *int64
}

func (t *bearer) columns(more ...any) []any {
	return append([]any{&t.mac, &t.expires, &t.revoked, &t.used, &t.datasets, &t.operatorID, &t.name, &t.role, &t.disabled, &t.deletedAt}, more...)
}

// reach is what is selected of a credential and a dataset.
type reach struct {
	row
	public, pem, version                []byte
	datasetID, dataset, algorithm, form string
	encrypt, decrypt, number            int64
	primaryDisabled, versionDisabled    *int64
}

// find selects what a release takes and checks a signature. As the signing key is sealed, the signature's HMAC is computed and
// passed over.
func (p *plane) find(r *http.Request, statement *sql.Stmt, args ...any) (f reach, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return f, err
	}
	digest := sha512.Sum512(body)
	if err := statement.QueryRow(args...).Scan(f.columns(&f.public, &f.pem, &f.datasetID, &f.dataset, &f.algorithm, &f.form,
		&f.encrypt, &f.decrypt, &f.primaryDisabled, &f.number, &f.versionDisabled, &f.version)...); err != nil {
		return f, err
	}
	m := hmac.New(sha512.New, f.signingKey)
	m.Write([]byte(r.Header.Get("Signature")))
	m.Write(digest[:])
	if !f.let(m.Sum(nil)) || f.primaryDisabled != nil || f.versionDisabled != nil || f.encrypt+f.decrypt == 0 {
		return f, errors.New("may not")
	}
	return f, nil
}

// wrap wraps as many data keys.
func (f reach) wrap(n int) (wrapped [][]byte, err error) {
	parsed, err := x509.ParsePKIXPublicKey(f.public)
	key, ok := parsed.(*rsa.PublicKey)
	if err != nil || !ok {
		return nil, errors.Join(err, errors.New("no RSA key"))
	}
	for range n {
		dataKey := make([]byte, 32)
		_, _ = rand.Read(dataKey)
		one, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, dataKey, nil) //nolint:gosec // as the libraries have it
		if err != nil {
			return nil, err
		}
		wrapped = append(wrapped, one)
	}
	return wrapped, nil
}

type released struct {
	PrivateKey  string `json:"encrypted_private_key"`
	Session     string `json:"encryption_session"`
	Fingerprint string `json:"key_fingerprint"`
	Wrapped     []byte `json:"wrapped_data_key"`
	Encrypted   []byte `json:"encrypted_data_key"`
	MaxUses     int    `json:"max_uses"`
}

func (p *plane) encryptionKey(r *http.Request) (released, error) {
	p.running.Add(1)
	defer p.running.Add(-1)
	id := signer(r)
	f, err := p.find(r, p.release, id)
	if err != nil {
		return released{}, err
	}
	wrapped, err := f.wrap(1)
	if err != nil {
		return released{}, err
	}
	i := insert{by: id, action: "data-keys.encrypt", done: make(chan error, 1)}
	p.inserts <- i
	return released{string(f.pem), rand.Text(), rand.Text(), wrapped[0], wrapped[0][:112], 1}, <-i.done
}

type definition struct {
	Record     json.RawMessage `json:"ffs"`
	PrivateKey string          `json:"encrypted_private_key"`
	Current    int             `json:"current_key_number"`
	Keys       [][]byte        `json:"keys"`
}

func (p *plane) defKeys(r *http.Request) (map[string]definition, error) {
	name := r.URL.Query().Get("ffs_name")
	f, err := p.find(r, p.named, signer(r), name)
	if err != nil {
		return nil, err
	}
	rows, err := p.dataKeys.Query(f.datasetID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var number int64
		var sealed []byte
		if err := rows.Scan(&number, &sealed); err != nil {
			return nil, err
		}
	}
	wrapped, err := f.wrap(n)
	return map[string]definition{name: {json.RawMessage(f.form), string(f.pem), len(wrapped) - 1, wrapped}}, errors.Join(err, rows.Err())
}

// signer is the access key id in a Signature header, which begins with it.
func signer(r *http.Request) string {
	_, rest, _ := strings.Cut(r.Header.Get("Signature"), `keyId="`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

// insert is a row of the audit log that a request waits for.
type insert struct {
	by, action string
	done       chan error
}

// insertAll makes rows durable, as many in one transaction as requests are running and come within a millisecond (group commit).
func (p *plane) insertAll(seq int64) {
	for first := range p.inserts {
		batch := []insert{first}
		for timer := time.After(time.Millisecond); timer != nil && int64(len(batch)) < p.running.Load(); {
			select {
			case i := <-p.inserts:
				batch = append(batch, i)
			case <-timer:
				timer = nil
			}
		}
		err := p.insertBatch(seq, batch)
		if err == nil {
			seq += int64(len(batch))
		}
		for _, i := range batch {
			i.done <- err
		}
	}
}

func (p *plane) insertBatch(seq int64, batch []insert) error {
	tx, err := p.writers.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for n, i := range batch {
		body, err := json.Marshal(record{seq + int64(n) + 1, time.Now().UTC().Format(time.RFC3339Nano), i.by, i.action, "payments", "ok", "127.0.0.1",
			rand.Text(), rand.Text()})
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		if _, err := tx.Exec(`INSERT INTO audit_log (seq, body, mac) VALUES ($1, $2, $3)`, seq+int64(n)+1, body, sum[:]); err != nil {
			return err
		}
	}
	return tx.Commit()
}
