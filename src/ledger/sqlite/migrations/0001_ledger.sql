-- The ledger. Locks: runs before the first order, in one exclusive transaction.

CREATE TABLE sales (
    no                INTEGER PRIMARY KEY,
    id                TEXT    NOT NULL,
    starts_at         INTEGER,
    ends_at           INTEGER,
    boundary          TEXT    NOT NULL,
    user_limit        INTEGER,
    payment_timeout_s INTEGER,
    on_duplicate      TEXT    NOT NULL,
    require_token     INTEGER NOT NULL,
    shards            INTEGER NOT NULL CHECK (shards BETWEEN 1 AND 1024),
    salt              BLOB    NOT NULL CHECK (length(salt) = 32),
    derivation        INTEGER NOT NULL,
    switch            TEXT    NOT NULL,
    created_at        INTEGER NOT NULL,
    CONSTRAINT sales_id_unique UNIQUE (id)
) STRICT;

CREATE TABLE skus (
    no         INTEGER PRIMARY KEY,
    sale_no    INTEGER NOT NULL REFERENCES sales (no),
    position   INTEGER NOT NULL,
    id         TEXT    NOT NULL,
    unit_price INTEGER NOT NULL CHECK (unit_price >= 0),
    currency   TEXT    NOT NULL,
    created    INTEGER NOT NULL CHECK (created >= 0), -- units it was created with
    total      INTEGER NOT NULL CHECK (total >= 0),   -- the same after every restock
    CONSTRAINT skus_id_unique UNIQUE (sale_no, id)
) STRICT;

-- The part of a sku's stock that one shard may sell. total = available + held + sold.
CREATE TABLE segments (
    sku_no INTEGER NOT NULL REFERENCES skus (no),
    shard  INTEGER NOT NULL,
    total  INTEGER NOT NULL,
    held   INTEGER NOT NULL,
    sold   INTEGER NOT NULL,
    PRIMARY KEY (sku_no, shard),
    CONSTRAINT segments_never_oversold CHECK (held >= 0 AND sold >= 0 AND held + sold <= total)
) STRICT, WITHOUT ROWID;

-- The gate epoch of each shard; no row: the shard was never loaded, so it has no order.
CREATE TABLE epochs (
    sale_no INTEGER NOT NULL REFERENCES sales (no),
    shard   INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,
    PRIMARY KEY (sale_no, shard)
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
    seq           INTEGER PRIMARY KEY,
    user_id       INTEGER NOT NULL CHECK (user_id > 0),
    order_no      BLOB    NOT NULL CHECK (length(order_no) = 16),
    sale_no       INTEGER NOT NULL,
    sku_no        INTEGER NOT NULL,
    quantity      INTEGER NOT NULL CHECK (quantity > 0),
    state         INTEGER NOT NULL,
    state_version INTEGER NOT NULL,
    fingerprint   BLOB    NOT NULL,
    epoch         INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    CONSTRAINT orders_user_order_unique UNIQUE (user_id, order_no)
) STRICT;

-- Units per user, kept only for sales with a user_limit.
CREATE TABLE buyers (
    sku_no  INTEGER NOT NULL REFERENCES skus (no),
    user_id INTEGER NOT NULL,
    units   INTEGER NOT NULL CHECK (units >= 0),
    PRIMARY KEY (sku_no, user_id)
) STRICT, WITHOUT ROWID;

-- Changes of stock by an operator, one row per change_id.
CREATE TABLE restocks (
    sale_no    INTEGER NOT NULL REFERENCES sales (no),
    change_id  TEXT    NOT NULL,
    sku_no     INTEGER NOT NULL REFERENCES skus (no),
    units      INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (sale_no, change_id)
) STRICT, WITHOUT ROWID;

-- Moves of unsold units between the shards of a sku, one row per move.
CREATE TABLE transfers (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    sku_no     INTEGER NOT NULL REFERENCES skus (no),
    from_shard INTEGER NOT NULL,
    to_shard   INTEGER NOT NULL,
    units      INTEGER NOT NULL CHECK (units > 0),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Whose order a number stands for. Filled in the background, so that recording an order writes one random page less.
CREATE TABLE order_numbers (
    order_no BLOB    NOT NULL PRIMARY KEY,
    user_id  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: every order up to this seq stands in order_numbers.
CREATE TABLE order_numbers_upto (
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO order_numbers_upto VALUES (0);
