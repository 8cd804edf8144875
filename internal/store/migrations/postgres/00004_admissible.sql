-- +goose Up

-- The credentials that a caller may prove he has. Whoever names one that is not there is compared with the one before it.
CREATE UNIQUE INDEX credentials_admissible ON credentials (access_key_id) WHERE signing_key IS NOT NULL;
