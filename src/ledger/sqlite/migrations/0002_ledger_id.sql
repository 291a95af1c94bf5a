-- What tells this ledger from every other. Locks: one exclusive transaction, no row of an order is touched.

CREATE TABLE ledger_id (
    id INTEGER NOT NULL
) STRICT;
INSERT INTO ledger_id VALUES (random());
