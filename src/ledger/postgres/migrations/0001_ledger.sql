-- The ledger. Locks: runs before the first order; it makes tables and touches none that exists.
--
-- Whoever changes stock locks rows of segments first, in the order (sku_no, shard), and only then anything else: orders
-- by (user_id, order_no), skus, the revision, sales. One order for everyone leaves no room for a deadlock.

CREATE TABLE sales (
    no                bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                text    NOT NULL,
    starts_at         bigint,
    ends_at           bigint,
    boundary          text    NOT NULL,
    user_limit        bigint,
    payment_timeout_s bigint,
    on_duplicate      text    NOT NULL,
    require_token     boolean NOT NULL,
    shards            integer NOT NULL CHECK (shards BETWEEN 1 AND 1024),
    salt              bytea   NOT NULL CHECK (length(salt) = 32),
    derivation        integer NOT NULL,
    switch            text    NOT NULL,
    revision          bigint  NOT NULL,
    ungated           boolean NOT NULL DEFAULT false, -- whether orders ever went past its gate
    created_at        bigint  NOT NULL,
    CONSTRAINT sales_id_unique UNIQUE (id)
);
CREATE INDEX sales_revision ON sales (revision);

-- One row: the newest revision of any sale. Whoever raises it holds it until the commit, so that revisions become
-- visible in their order and a reader that asks for later ones misses none.
CREATE TABLE revisions (
    newest bigint NOT NULL
);
INSERT INTO revisions VALUES (0);

CREATE TABLE skus (
    no         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sale_no    bigint  NOT NULL REFERENCES sales (no),
    position   integer NOT NULL,
    id         text    NOT NULL,
    unit_price bigint  NOT NULL CHECK (unit_price >= 0),
    currency   text    NOT NULL,
    created    bigint  NOT NULL CHECK (created >= 0), -- units it was created with
    total      bigint  NOT NULL CHECK (total >= 0),   -- the same after every restock
    CONSTRAINT skus_id_unique UNIQUE (sale_no, id)
);

-- The part of a sku's stock that one shard may sell. total = available + held + sold. Every batch of orders updates
-- its rows: the free space keeps the new versions on the same page, where no index needs to know of them.
CREATE TABLE segments (
    sku_no bigint  NOT NULL REFERENCES skus (no),
    shard  integer NOT NULL,
    total  bigint  NOT NULL,
    held   bigint  NOT NULL,
    sold   bigint  NOT NULL,
    CONSTRAINT segments_pkey PRIMARY KEY (sku_no, shard),
    CONSTRAINT segments_never_oversold CHECK (held >= 0 AND sold >= 0 AND held + sold <= total)
) WITH (fillfactor = 20);

-- The gate epoch of each shard; no row: the shard was never loaded, so it has no order.
CREATE TABLE epochs (
    sale_no bigint  NOT NULL REFERENCES sales (no),
    shard   integer NOT NULL,
    epoch   bigint  NOT NULL,
    CONSTRAINT epochs_pkey PRIMARY KEY (sale_no, shard)
);

-- Every batch draws one block of numbers for the seq of its orders.
CREATE SEQUENCE order_blocks;

-- The primary key is the last guard against an order that stands twice. It begins with user_id, so that the table can
-- be partitioned by it (docs/decisions/0009-postgres-ledger.md).
CREATE TABLE orders (
    seq           bigint   NOT NULL,
    user_id       bigint   NOT NULL CHECK (user_id > 0),
    sale_no       bigint   NOT NULL,
    sku_no        bigint   NOT NULL,
    epoch         bigint   NOT NULL,
    created_at    bigint   NOT NULL,
    updated_at    bigint   NOT NULL,
    order_no      uuid     NOT NULL,
    fingerprint   uuid     NOT NULL,
    quantity      integer  NOT NULL CHECK (quantity > 0),
    state_version integer  NOT NULL,
    state         smallint NOT NULL,
    CONSTRAINT orders_user_order_unique PRIMARY KEY (user_id, order_no)
);

-- Finds an order by its number alone, for operators. A filter per 32 pages of the table (some 2000 orders) instead of an
-- entry per order: recording an order costs no random page more, and a look-up reads all filters.
CREATE INDEX orders_number ON orders USING brin
    (order_no uuid_bloom_ops (n_distinct_per_range = 2048, false_positive_rate = 0.001))
    WITH (pages_per_range = 32, autosummarize = on);

-- Units per user, kept only for sales with a user_limit. No reference to skus: it would be looked up for every order.
CREATE TABLE buyers (
    sku_no  bigint NOT NULL,
    user_id bigint NOT NULL,
    units   bigint NOT NULL CHECK (units >= 0),
    CONSTRAINT buyers_pkey PRIMARY KEY (sku_no, user_id)
);

-- Changes of stock by an operator, one row per change_id.
CREATE TABLE restocks (
    sale_no    bigint NOT NULL REFERENCES sales (no),
    change_id  text   NOT NULL,
    sku_no     bigint NOT NULL REFERENCES skus (no),
    units      bigint NOT NULL,
    created_at bigint NOT NULL,
    CONSTRAINT restocks_pkey PRIMARY KEY (sale_no, change_id)
);

-- Moves of unsold units between the shards of a sku, one row per move.
CREATE TABLE transfers (
    id         uuid    NOT NULL,
    sku_no     bigint  NOT NULL REFERENCES skus (no),
    from_shard integer NOT NULL,
    to_shard   integer NOT NULL,
    units      bigint  NOT NULL CHECK (units > 0),
    created_at bigint  NOT NULL,
    CONSTRAINT transfers_pkey PRIMARY KEY (id)
);

-- What tells this ledger from every other: 64 random bits, drawn once.
CREATE TABLE ledger_id (
    id bigint NOT NULL
);
-- Eight hexadecimal digits each of two random ids, those that carry no version.
INSERT INTO ledger_id SELECT ('x' || left(gen_random_uuid()::text, 8) || right(gen_random_uuid()::text, 8))::bit(64)::bigint;
