-- What tells this ledger from every other. Locks: one exclusive transaction, no row of an order is touched.

CREATE TABLE ledger_id (
    id INTEGER NOT NULL
) STRICT;
INSERT INTO ledger_id VALUES (random());

-- Whether orders of the sale ever went past its gate.
ALTER TABLE sales ADD COLUMN ungated INTEGER NOT NULL DEFAULT 0;
