-- What happens to an order after it is made. Locks: one exclusive transaction; building the index reads every order once.

-- Whether the units of the order went back on sale.
ALTER TABLE orders ADD COLUMN returned INTEGER NOT NULL DEFAULT 0;
-- Where the days of a sale begin.
ALTER TABLE sales ADD COLUMN time_zone TEXT NOT NULL DEFAULT 'UTC';
-- Units that ever came back into the segment from orders.
ALTER TABLE segments ADD COLUMN returned INTEGER NOT NULL DEFAULT 0;

-- The orders that may expire, by sale, the oldest first. New ones come at the end of it, so it costs no random page.
CREATE INDEX orders_unpaid ON orders (sale_no, created_at) WHERE state = 0;

-- The steps of orders. Rows are added and never changed.
CREATE TABLE order_steps (
    order_no      BLOB    NOT NULL CHECK (length(order_no) = 16),
    state_version INTEGER NOT NULL CHECK (state_version > 1), -- that the step led to
    user_id       INTEGER NOT NULL,
    step          INTEGER NOT NULL,
    from_state    INTEGER NOT NULL,
    to_state      INTEGER NOT NULL,
    by            TEXT    NOT NULL, -- buyer, operator, deadline, or the provider that reported it
    event_id      TEXT,             -- of the report
    at            INTEGER NOT NULL,
    PRIMARY KEY (order_no, state_version)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER order_steps_never_change BEFORE UPDATE ON order_steps
BEGIN SELECT RAISE(ABORT, 'a step of an order is never changed'); END;
CREATE TRIGGER order_steps_never_vanish BEFORE DELETE ON order_steps
BEGIN SELECT RAISE(ABORT, 'a step of an order is never removed'); END;

-- What payment providers reported, one row per event, written before the provider is answered.
CREATE TABLE payment_reports (
    provider   TEXT    NOT NULL,
    event_id   TEXT    NOT NULL,
    event_type TEXT    NOT NULL,
    fact       TEXT    NOT NULL,
    order_no   BLOB,
    payment_id TEXT,
    amount     INTEGER,
    currency   TEXT,
    is_total   INTEGER,
    is_ours    INTEGER,
    note       TEXT    NOT NULL, -- what became of it
    at         INTEGER NOT NULL,
    CONSTRAINT payment_reports_event_unique PRIMARY KEY (provider, event_id)
) STRICT;
CREATE INDEX payment_reports_order ON payment_reports (order_no) WHERE order_no IS NOT NULL;
