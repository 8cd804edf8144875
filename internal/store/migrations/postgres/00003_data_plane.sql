-- +goose Up

-- What a key may do in a dataset it is attached to.
ALTER TABLE key_datasets ADD COLUMN may_encrypt BIGINT NOT NULL DEFAULT 1 CHECK (may_encrypt IN (0, 1));
ALTER TABLE key_datasets ADD COLUMN may_decrypt BIGINT NOT NULL DEFAULT 1 CHECK (may_decrypt IN (0, 1));

-- Of a structured dataset: how its fields look, JSON; and its data keys, each sealed under the Primary Key.
ALTER TABLE datasets ADD COLUMN format TEXT COLLATE "C";

CREATE TABLE data_keys (
    dataset_id TEXT COLLATE "C" NOT NULL REFERENCES datasets (id),
    number     BIGINT NOT NULL CHECK (number >= 0),
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    sealed     BYTEA NOT NULL CHECK (length(sealed) > 0),
    PRIMARY KEY (dataset_id, number)
);

-- What client libraries say they did, summed up by day.
CREATE TABLE usage (
    key_id     TEXT COLLATE "C" NOT NULL REFERENCES keys (id),
    dataset_id TEXT COLLATE "C" NOT NULL REFERENCES datasets (id),
    action     TEXT COLLATE "C" NOT NULL CHECK (action IN ('encrypt', 'decrypt')),
    product    TEXT COLLATE "C" NOT NULL, -- the client library
    version    TEXT COLLATE "C" NOT NULL, -- its
    day        BIGINT NOT NULL, -- its first instant
    count      BIGINT NOT NULL CHECK (count >= 0),
    first_at   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    PRIMARY KEY (key_id, dataset_id, action, product, version, day)
);

CREATE INDEX usage_day ON usage (day);
CREATE INDEX usage_dataset ON usage (dataset_id, day);
