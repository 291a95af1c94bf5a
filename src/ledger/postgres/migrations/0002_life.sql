-- What happens to an order after it is made. Locks: nobody reads or records an order until this is committed, because the two
-- indexes are built meanwhile, some seconds per million orders; the columns are added without touching a row.
--
-- Whoever changes orders locks their rows first, in the order (order_no), and then segments in the order of 0001; they write
-- to the orders only when they hold every segment that they need. So nobody who holds a segment waits for an order whose
-- holder still wants one.

-- First those are kept out who write to sales and then to segments (a sale that is made, a restock), while batches of orders,
-- which hold segments and then only read sales, go on; then these; then everybody. Ends of sales and new epochs hold segments
-- and then write to sales: with them this may wait crosswise, and then it is tried again, as after every wait that is long.
LOCK TABLE sales IN EXCLUSIVE MODE;
LOCK TABLE segments, orders, sales IN ACCESS EXCLUSIVE MODE;

-- Whether the units of the order went back on sale.
ALTER TABLE orders ADD COLUMN returned boolean NOT NULL DEFAULT false;
-- Where the days of a sale begin.
ALTER TABLE sales ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC';
-- Units that ever came back into the segment from orders.
ALTER TABLE segments ADD COLUMN returned bigint NOT NULL DEFAULT 0;

-- The orders that may expire, by sale, the oldest first. New ones come at the end of it, so it costs no random page.
CREATE INDEX orders_unpaid ON orders (sale_no, created_at) WHERE state = 0;

-- Payment providers name an order by its number alone, many times a second: the filters of 0001 are too slow for that.
DROP INDEX orders_number;
CREATE INDEX orders_number ON orders USING hash (order_no);

-- The steps of orders. Rows are added and never changed.
CREATE TABLE order_steps (
    order_no      uuid     NOT NULL,
    state_version integer  NOT NULL CHECK (state_version > 1), -- that the step led to
    user_id       bigint   NOT NULL,
    step          smallint NOT NULL,
    from_state    smallint NOT NULL,
    to_state      smallint NOT NULL,
    by            text     NOT NULL, -- buyer, operator, deadline, or the provider that reported it
    event_id      text,              -- of the report
    at            bigint   NOT NULL,
    CONSTRAINT order_steps_pkey PRIMARY KEY (order_no, state_version)
);
CREATE FUNCTION order_steps_never_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'a step of an order is never changed' USING ERRCODE = 'integrity_constraint_violation'; END $$;
CREATE TRIGGER order_steps_never_change BEFORE UPDATE OR DELETE ON order_steps
    FOR EACH ROW EXECUTE FUNCTION order_steps_never_change();
CREATE TRIGGER order_steps_never_vanish BEFORE TRUNCATE ON order_steps
    FOR EACH STATEMENT EXECUTE FUNCTION order_steps_never_change();

-- What payment providers reported, one row per event, written before the provider is answered.
CREATE TABLE payment_reports (
    provider   text    NOT NULL,
    event_id   text    NOT NULL,
    event_type text    NOT NULL,
    fact       text    NOT NULL,
    order_no   uuid,
    payment_id text,
    amount     bigint,
    currency   text,
    is_total   boolean,
    is_ours    boolean,
    note       text    NOT NULL, -- what became of it
    at         bigint  NOT NULL,
    CONSTRAINT payment_reports_event_unique PRIMARY KEY (provider, event_id)
);
CREATE INDEX payment_reports_order ON payment_reports (order_no) WHERE order_no IS NOT NULL;
