-- Operations that are done once, by the key under which they were asked for. See the module `rushgate::idempotency`.
CREATE TABLE idempotency_keys (
    scope       text   NOT NULL,
    key         text   NOT NULL,
    fingerprint uuid   NOT NULL,
    state       text   NOT NULL CHECK (state IN ('claimed', 'done', 'failed')),
    token       uuid   NOT NULL, -- of the claim that did or does it
    lease_until bigint NOT NULL, -- ms; a claim that is older may be taken over
    answer      bytea,
    created_at  bigint NOT NULL,
    keep_until  bigint NOT NULL, -- ms; a row that is older and not under a lease may be removed
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (scope, key),
    CONSTRAINT idempotency_keys_answered CHECK ((state = 'claimed') = (answer IS NULL))
);
CREATE INDEX idempotency_keys_keep ON idempotency_keys (keep_until);
