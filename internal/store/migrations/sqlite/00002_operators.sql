-- +goose Up

-- An operator that is deleted stays as a tombstone: the audit log names operators, so a name is given once.
ALTER TABLE operators ADD COLUMN created_by TEXT NOT NULL DEFAULT '';
ALTER TABLE operators ADD COLUMN disabled_at INTEGER;
ALTER TABLE operators ADD COLUMN deleted_at INTEGER;

CREATE TABLE tokens (
    seq            INTEGER PRIMARY KEY, -- the order in which they were made
    id             TEXT    NOT NULL UNIQUE CHECK (id <> ''),
    operator_id    TEXT    NOT NULL REFERENCES operators (id),
    description    TEXT    NOT NULL,
    mac            BLOB    NOT NULL CHECK (length(mac) > 0),
    datasets       TEXT    NOT NULL, -- a JSON array of ids
    created_at     INTEGER NOT NULL,
    created_by     TEXT    NOT NULL,
    expires_at     INTEGER,
    revoked_at     INTEGER,
    last_used_at   INTEGER,
    last_used_from TEXT    NOT NULL
) STRICT;

CREATE INDEX tokens_operator ON tokens (operator_id, seq);
