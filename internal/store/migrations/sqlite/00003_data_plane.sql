-- +goose Up

-- What a key may do in a dataset it is attached to.
ALTER TABLE key_datasets ADD COLUMN may_encrypt INTEGER NOT NULL DEFAULT 1 CHECK (may_encrypt IN (0, 1));
ALTER TABLE key_datasets ADD COLUMN may_decrypt INTEGER NOT NULL DEFAULT 1 CHECK (may_decrypt IN (0, 1));

-- Of a structured dataset: how its fields look, JSON; and its data keys, each sealed under the Primary Key.
ALTER TABLE datasets ADD COLUMN format TEXT;

CREATE TABLE data_keys (
    dataset_id TEXT    NOT NULL REFERENCES datasets (id),
    number     INTEGER NOT NULL CHECK (number >= 0),
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    sealed     BLOB    NOT NULL CHECK (length(sealed) > 0),
    PRIMARY KEY (dataset_id, number)
) STRICT, WITHOUT ROWID;

-- What client libraries say they did, summed up by day.
CREATE TABLE usage (
    key_id     TEXT    NOT NULL REFERENCES keys (id),
    dataset_id TEXT    NOT NULL REFERENCES datasets (id),
    action     TEXT    NOT NULL CHECK (action IN ('encrypt', 'decrypt')),
    product    TEXT    NOT NULL, -- the client library
    version    TEXT    NOT NULL, -- its
    day        INTEGER NOT NULL, -- its first instant
    count      INTEGER NOT NULL CHECK (count >= 0),
    first_at   INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    PRIMARY KEY (key_id, dataset_id, action, product, version, day)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_day ON usage (day);
CREATE INDEX usage_dataset ON usage (dataset_id, day);
