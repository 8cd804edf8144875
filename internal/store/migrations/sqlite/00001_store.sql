-- +goose Up

-- A migration that two processes start at once is applied once: the second one cannot record it and is rolled back.
CREATE UNIQUE INDEX goose_db_version_once ON goose_db_version (version_id);

-- Times are UTC microseconds; NULL stands for "never" and "not yet".

CREATE TABLE meta (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    store_id    TEXT    NOT NULL CHECK (store_id <> ''),
    created_at  INTEGER NOT NULL,
    check_value BLOB    NOT NULL,
    keyring     BLOB    NOT NULL,
    decoy       TEXT    NOT NULL -- access key id of a credential that nobody has
) STRICT;

CREATE TABLE keys (
    id             TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    name           TEXT    NOT NULL CHECK (name <> ''),
    description    TEXT    NOT NULL,
    labels         TEXT    NOT NULL, -- a JSON object of strings
    ip_ranges      TEXT    NOT NULL, -- a comma list; empty: any address
    created_at     INTEGER NOT NULL,
    created_by     TEXT    NOT NULL,
    activated_at   INTEGER,
    expires_at     INTEGER,
    disabled_at    INTEGER,
    compromised_at INTEGER,
    deleted_at     INTEGER,
    last_used_at   INTEGER,
    -- Where a key without the time stands in the orders of lists. Paging compares these together with the id, and an index
    -- serves such a comparison only over columns.
    expires_rank   INTEGER NOT NULL GENERATED ALWAYS AS (COALESCE(expires_at, 9223372036854775807)) VIRTUAL,
    last_used_rank INTEGER NOT NULL GENERATED ALWAYS AS (COALESCE(last_used_at, -9223372036854775807)) VIRTUAL,
    CHECK (compromised_at IS NULL OR disabled_at IS NOT NULL)
) STRICT;

-- Each order of lists has one index over the keys that are there and one over the tombstones that lists may show. A row
-- is in one of the two only, and a page never steps over rows it does not return.
CREATE UNIQUE INDEX keys_live_name ON keys (name) WHERE deleted_at IS NULL;
CREATE INDEX keys_live_created ON keys (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX keys_live_expires ON keys (expires_rank, id) WHERE deleted_at IS NULL;
CREATE INDEX keys_live_used ON keys (last_used_rank, id) WHERE deleted_at IS NULL;
CREATE INDEX keys_past_name ON keys (name, id) WHERE deleted_at IS NOT NULL AND activated_at IS NOT NULL;
CREATE INDEX keys_past_created ON keys (created_at, id) WHERE deleted_at IS NOT NULL AND activated_at IS NOT NULL;
CREATE INDEX keys_past_expires ON keys (expires_rank, id) WHERE deleted_at IS NOT NULL AND activated_at IS NOT NULL;
CREATE INDEX keys_past_used ON keys (last_used_rank, id) WHERE deleted_at IS NOT NULL AND activated_at IS NOT NULL;

CREATE TABLE credentials (
    seq            INTEGER PRIMARY KEY, -- the order in which they were made
    access_key_id  TEXT    NOT NULL UNIQUE CHECK (access_key_id <> ''),
    key_id         TEXT    NOT NULL REFERENCES keys (id),
    generation     INTEGER NOT NULL CHECK (generation >= 1),
    created_at     INTEGER NOT NULL,
    pending_until  INTEGER NOT NULL,
    proven_at      INTEGER,
    grace_until    INTEGER,
    ended_at       INTEGER,
    ended_as       TEXT CHECK (ended_as IN ('retired', 'cancelled', 'deleted', 'withdrawn', 'superseded', 'purged')),
    signing_key    BLOB, -- sealed; NULL once wiped, like the challenge
    challenge      BLOB,
    fingerprint    BLOB,
    terms          TEXT, -- JSON
    previous       TEXT, -- JSON
    last_used_at   INTEGER,
    last_used_from TEXT    NOT NULL,
    CHECK ((ended_at IS NULL) = (ended_as IS NULL)),
    CHECK (grace_until IS NULL OR proven_at IS NOT NULL)
) STRICT;

CREATE INDEX credentials_key ON credentials (key_id, seq);

-- A key has at most one pending, one current and one rolled credential that have not ended: the two conditions tell the
-- three apart, so one index holds all three rules and finds the open credentials of a key besides.
CREATE UNIQUE INDEX credentials_open ON credentials (key_id, (proven_at IS NULL), (grace_until IS NULL))
    WHERE ended_at IS NULL;

-- What time has ended but no write has noticed.
CREATE INDEX credentials_pending ON credentials (pending_until) WHERE proven_at IS NULL AND ended_at IS NULL;
CREATE INDEX credentials_grace ON credentials (grace_until) WHERE grace_until IS NOT NULL AND ended_at IS NULL;
CREATE INDEX credentials_unwiped ON credentials (ended_at)
    WHERE ended_as IN ('retired', 'cancelled') AND signing_key IS NOT NULL;

-- Only the release of a data key and a check of a credential read this, so it stays out of the rows above.
CREATE TABLE credential_material (
    access_key_id   TEXT NOT NULL PRIMARY KEY REFERENCES credentials (access_key_id),
    public_key      BLOB NOT NULL,
    private_key_pem BLOB NOT NULL
) STRICT;

CREATE TABLE primary_keys (
    id          TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    name        TEXT    NOT NULL UNIQUE CHECK (name <> ''),
    description TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL,
    disabled_at INTEGER
) STRICT;

CREATE TABLE primary_key_versions (
    primary_key_id TEXT    NOT NULL REFERENCES primary_keys (id),
    version        INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),
    created_at     INTEGER NOT NULL,
    disabled_at    INTEGER,
    sealed         BLOB    NOT NULL CHECK (length(sealed) > 0),
    PRIMARY KEY (primary_key_id, version)
) STRICT;

CREATE TABLE datasets (
    id              TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    name            TEXT    NOT NULL CHECK (name <> ''),
    description     TEXT    NOT NULL,
    type            TEXT    NOT NULL CHECK (type IN ('unstructured', 'structured')),
    algorithm       TEXT    NOT NULL,
    primary_key_id  TEXT    NOT NULL REFERENCES primary_keys (id),
    created_at      INTEGER NOT NULL,
    created_by      TEXT    NOT NULL,
    deleted_at      INTEGER,
    first_key_id    TEXT    NOT NULL,
    own_primary_key INTEGER NOT NULL CHECK (own_primary_key IN (0, 1))
) STRICT;

CREATE UNIQUE INDEX datasets_live_name ON datasets (name) WHERE deleted_at IS NULL;
CREATE INDEX datasets_primary_key ON datasets (primary_key_id);

CREATE TABLE key_datasets (
    key_id      TEXT    NOT NULL REFERENCES keys (id),
    dataset_id  TEXT    NOT NULL REFERENCES datasets (id),
    attached_at INTEGER NOT NULL,
    PRIMARY KEY (key_id, dataset_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX key_datasets_dataset ON key_datasets (dataset_id, key_id);

CREATE TABLE operators (
    seq        INTEGER PRIMARY KEY, -- the order in which they were made
    id         TEXT    NOT NULL UNIQUE CHECK (id <> ''),
    name       TEXT    NOT NULL UNIQUE CHECK (name <> ''),
    role       TEXT    NOT NULL CHECK (role IN ('owner', 'admin', 'ci', 'auditor', 'verifier')),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE second_factors (
    operator_id  TEXT    NOT NULL PRIMARY KEY REFERENCES operators (id),
    seed         BLOB    NOT NULL CHECK (length(seed) > 0), -- sealed
    created_at   INTEGER NOT NULL,
    confirmed_at INTEGER,
    last_step    INTEGER NOT NULL,
    failures     INTEGER NOT NULL CHECK (failures >= 0),
    locked_until INTEGER,
    disabled     INTEGER NOT NULL CHECK (disabled IN (0, 1))
) STRICT;

CREATE TABLE recovery_codes (
    operator_id TEXT NOT NULL REFERENCES operators (id),
    mac         BLOB NOT NULL CHECK (length(mac) > 0),
    used_at     INTEGER,
    PRIMARY KEY (operator_id, mac)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_log (
    seq  INTEGER PRIMARY KEY CHECK (seq >= 1),
    body BLOB NOT NULL,
    mac  BLOB NOT NULL
) STRICT;

CREATE TABLE audit_head (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    seq  INTEGER NOT NULL CHECK (seq >= 0),
    hash BLOB    NOT NULL CHECK (length(hash) = 32),
    mac  BLOB    NOT NULL
) STRICT;
