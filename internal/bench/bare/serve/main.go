// Command serve is the bare program that `keyctl serve` is compared with: net/http handlers that run the same statements on
// a store of the same form. It shows a key with one SELECT, and it creates and activates keys with the two transactions
// that this takes: the same rows, and the same audit records and head with their MACs. It knows no tokens, no master key and no
// rules; it seals nothing, checks nothing and writes no log. To applications it answers with what each route has to read, compute
// and remember at least (dataplane.go).
//
// It prints where it listens, and serves until it is killed.
//
// Usage: serve STORE, the path of a SQLite file or a URL of PostgreSQL
package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"
)

func main() {
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

// selectKey selects what is shown of a key: its row, its current credential's, and its datasets'.
const selectKey = `SELECT keys.id, keys.name, keys.description, labels, ip_ranges, keys.created_at, keys.created_by, activated_at, expires_at,
	disabled_at, compromised_at, keys.last_used_at, access_key_id, generation, datasets.name
	FROM keys
	LEFT JOIN credentials ON credentials.key_id = keys.id AND ended_at IS NULL AND grace_until IS NULL AND proven_at IS NOT NULL
	LEFT JOIN key_datasets ON key_datasets.key_id = keys.id LEFT JOIN datasets ON datasets.id = dataset_id
	WHERE keys.name = $1 AND keys.deleted_at IS NULL`

// server has a statement prepared once for the reads, and a pool for the writes.
type server struct {
	show       *sql.Stmt
	writers    *sql.DB
	selectHead string
	macKey     []byte
}

func serve(store string) error {
	s := &server{macKey: make([]byte, 32), selectHead: "SELECT seq, hash FROM audit_head WHERE id = 1"}
	readers, err := open(store, 4)
	if err != nil {
		return err
	}
	if s.show, err = readers.Prepare(selectKey); err != nil {
		return err
	}
	writers := 1 // SQLite has one at a time
	if isPostgres(store) {
		writers = 16
		s.selectHead += " FOR UPDATE"
	}
	if s.writers, err = open(store, writers); err != nil {
		return err
	}
	http.HandleFunc("GET /v1/keys/{key}", answers(s.showKey))
	http.HandleFunc("POST /v1/keys", answers(s.createKey))
	http.HandleFunc("POST /v1/credentials/{id}/prove", answers(s.prove))
	if err := s.serveDataPlane(readers); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", listener.Addr())
	return http.Serve(listener, nil)
}

func isPostgres(store string) bool { return strings.HasPrefix(store, "postgres://") }

// open opens a store: a SQLite file with the settings that keyctl has.
func open(store string, connections int) (*sql.DB, error) {
	driver, dsn := "pgx", store
	if !isPostgres(store) {
		driver, dsn = "sqlite", (&url.URL{Scheme: "file", Path: store, RawQuery: url.Values{"mode": {"rw"}, "_txlock": {"immediate"}, "_pragma": {
			"busy_timeout(5000)", "synchronous(FULL)", "foreign_keys(1)", "trusted_schema(0)", "cell_size_check(1)",
			"mmap_size(0)", "secure_delete(1)", "journal_mode(WAL)",
		}}.Encode()}).String()
	}
	db, err := sql.Open(driver, dsn)
	if err == nil {
		db.SetMaxOpenConns(connections)
		db.SetMaxIdleConns(connections)
	}
	return db, err
}

// answers makes a handler of a function that answers with JSON.
func answers[T any](handle func(r *http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := handle(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}
}

type key struct {
	ID            string   `json:"id"`
	Name          string   `json:"name"`
	Description   string   `json:"description"`
	AccessKeyID   *string  `json:"access_key_id"`
	Generation    *int64   `json:"generation"`
	Datasets      []string `json:"datasets"`
	Labels        string   `json:"labels"`
	IPRanges      string   `json:"ip_ranges"`
	CreatedAt     int64    `json:"created_at"`
	CreatedBy     string   `json:"created_by"`
	ActivatedAt   *int64   `json:"activated_at"`
	ExpiresAt     *int64   `json:"expires_at"`
	DisabledAt    *int64   `json:"disabled_at"`
	CompromisedAt *int64   `json:"compromised_at"`
	LastUsedAt    *int64   `json:"last_used_at"`
}

func (s *server) showKey(r *http.Request) (k key, err error) {
	rows, err := s.show.Query(r.PathValue("key"))
	if err != nil {
		return k, err
	}
	defer rows.Close()
	for rows.Next() {
		var dataset *string
		err := rows.Scan(&k.ID, &k.Name, &k.Description, &k.Labels, &k.IPRanges, &k.CreatedAt, &k.CreatedBy, &k.ActivatedAt, &k.ExpiresAt,
			&k.DisabledAt, &k.CompromisedAt, &k.LastUsedAt, &k.AccessKeyID, &k.Generation, &dataset)
		if err != nil {
			return k, err
		}
		if dataset != nil {
			k.Datasets = append(k.Datasets, *dataset)
		}
	}
	return k, rows.Err()
}

// newKey is what `keyctl serve` takes: a key and what was drawn for it.
type newKey struct {
	Name       string
	Credential struct {
		AccessKeyID   string `json:"access_key_id"`
		SigningKey    string `json:"secret_signing_key"`
		PublicKey     []byte `json:"public_key"`
		PrivateKeyPEM []byte `json:"encrypted_private_key"`
	}
}

type pending struct {
	KeyID     string `json:"key_id"`
	Challenge []byte `json:"challenge"`
}

func (s *server) createKey(r *http.Request) (pending, error) {
	var k newKey
	if err := json.NewDecoder(r.Body).Decode(&k); err != nil {
		return pending{}, err
	}
	c, now := k.Credential, time.Now().UnixMicro()
	p := pending{"key_" + rand.Text()[:22], make([]byte, 32)}
	if _, err := rand.Read(p.Challenge); err != nil {
		return p, err
	}
	return p, s.change(r.Context(), "keys.create", p.KeyID, []statement{
		{`INSERT INTO keys (id, name, description, labels, ip_ranges, created_at, created_by) VALUES ($1, $2, '', '{}', '', $3, 'bare')`,
			[]any{p.KeyID, k.Name, now}},
		{`INSERT INTO credentials (access_key_id, key_id, generation, created_at, pending_until, signing_key, challenge, fingerprint,
			last_used_from) VALUES ($1, $2, 1, $3, $4, $5, $6, $7, '')`,
			[]any{c.AccessKeyID, p.KeyID, now, now + 600_000_000, []byte(c.SigningKey), p.Challenge, make([]byte, 37)}},
		{`INSERT INTO credential_material (access_key_id, public_key, private_key_pem) VALUES ($1, $2, $3)`,
			[]any{c.AccessKeyID, c.PublicKey, c.PrivateKeyPEM}},
	})
}

func (s *server) prove(r *http.Request) (struct{}, error) {
	var proof struct{ Proof []byte }
	if err := json.NewDecoder(r.Body).Decode(&proof); err != nil {
		return struct{}{}, err
	}
	id, now := r.PathValue("id"), time.Now().UnixMicro()
	return struct{}{}, s.change(r.Context(), "keys.activate", id, []statement{
		{`UPDATE keys SET activated_at = $2 WHERE id = (SELECT key_id FROM credentials WHERE access_key_id = $1)`, []any{id, now}},
		{`UPDATE credentials SET proven_at = $2 WHERE access_key_id = $1`, []any{id, now}},
	})
}

type statement struct {
	query string
	args  []any
}

// record is the body of an audit record.
type record struct {
	Seq       int64  `json:"seq"`
	At        string `json:"at"`
	Actor     string `json:"actor"`
	Action    string `json:"action"`
	Object    string `json:"object"`
	Outcome   string `json:"outcome"`
	Address   string `json:"address"`
	RequestID string `json:"request_id"`
	Prev      string `json:"prev"`
}

// change is one transaction: the statements, the audit record, the head.
func (s *server) change(ctx context.Context, action, object string, statements []statement) error {
	tx, err := s.writers.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, st := range statements {
		if _, err := tx.ExecContext(ctx, st.query, st.args...); err != nil {
			return err
		}
	}
	var seq int64
	var prev []byte
	if err := tx.QueryRowContext(ctx, s.selectHead).Scan(&seq, &prev); err != nil {
		return err
	}
	seq++
	body, err := json.Marshal(record{seq, time.Now().UTC().Format(time.RFC3339Nano), "bare", action, object, "ok", "127.0.0.1",
		rand.Text(), hex.EncodeToString(prev)})
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO audit_log (seq, body, mac) VALUES ($1, $2, $3)`, seq, body, s.mac(body)); err != nil {
		return err
	}
	hash := sha256.Sum256(body)
	if _, err := tx.ExecContext(ctx, `UPDATE audit_head SET seq = $1, hash = $2, mac = $3 WHERE id = 1`, seq, hash[:], s.mac(hash[:])); err != nil {
		return err
	}
	return tx.Commit()
}

func (s *server) mac(b []byte) []byte {
	m := hmac.New(sha256.New, s.macKey)
	m.Write(b)
	return m.Sum(nil)
}
