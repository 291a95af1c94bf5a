-- Operations that are done once, by the key under which they were asked for. See the module `rushgate::idempotency`.
CREATE TABLE idempotency_keys (
    scope       TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 16),
    state       TEXT    NOT NULL CHECK (state IN ('claimed', 'done', 'failed')),
    token       BLOB    NOT NULL CHECK (length(token) = 16), -- of the claim that did or does it
    lease_until INTEGER NOT NULL,                            -- ms; a claim that is older may be taken over
    answer      BLOB,
    created_at  INTEGER NOT NULL,
    keep_until  INTEGER NOT NULL,                            -- ms; a row that is older and not under a lease may be removed
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (scope, key),
    CONSTRAINT idempotency_keys_answered CHECK ((state = 'claimed') = (answer IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_keep ON idempotency_keys (keep_until);
