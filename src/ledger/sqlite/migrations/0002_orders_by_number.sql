-- Finds an order by its number alone, for operators and payment providers, who do not say whose it is.
-- Locks: the whole ledger for as long as the index takes to build (about 1 s per million orders).

CREATE UNIQUE INDEX orders_number_unique ON orders (order_no);
