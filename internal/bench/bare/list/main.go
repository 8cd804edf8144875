// Command list is the bare program that `keyctl keys list` is compared with: it opens the same SQLite file in the same
// way, selects the same rows and writes them as JSON. It knows no master key, no configuration and no rules.
//
// Usage: list STORE LIMIT
package main

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"

	_ "modernc.org/sqlite"
)

func main() {
	if err := list(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "list:", err)
		os.Exit(1)
	}
}

// queries select what a list of keys shows: the keys, their open credentials, and their datasets.
var queries = []string{
	`SELECT id, name, description, labels, ip_ranges, created_at, created_by, activated_at, expires_at, disabled_at,
		compromised_at, deleted_at, last_used_at
		FROM keys WHERE deleted_at IS NULL ORDER BY name LIMIT $1`,
	`SELECT access_key_id, key_id, generation, created_at, pending_until, proven_at, grace_until, ended_at, ended_as,
		signing_key, challenge, fingerprint, terms, previous, last_used_at, last_used_from
		FROM credentials WHERE ended_at IS NULL
		AND key_id IN (SELECT id FROM keys WHERE deleted_at IS NULL ORDER BY name LIMIT $1)`,
	`SELECT key_datasets.key_id, datasets.name FROM key_datasets JOIN datasets ON datasets.id = key_datasets.dataset_id
		WHERE key_datasets.key_id IN (SELECT id FROM keys WHERE deleted_at IS NULL ORDER BY name LIMIT $1)`,
}

func list(path, limit string) error {
	n, err := strconv.Atoi(limit)
	if err != nil {
		return err
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{"mode": {"rw"}, "_query_only": {"1"}, "_pragma": {
		"busy_timeout(150)", "synchronous(FULL)", "foreign_keys(1)", "trusted_schema(0)", "cell_size_check(1)",
		"mmap_size(0)", "secure_delete(1)", "journal_mode(WAL)",
	}}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	out := bufio.NewWriter(os.Stdout)
	for _, query := range queries {
		if err := write(out, tx, query, n); err != nil {
			return err
		}
	}
	return out.Flush()
}

// write writes each row of a query as a JSON list.
func write(out *bufio.Writer, tx *sql.Tx, query string, limit int) error {
	rows, err := tx.Query(query, limit)
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	values, into := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	encoder := json.NewEncoder(out)
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := encoder.Encode(values); err != nil {
			return err
		}
	}
	return rows.Err()
}
