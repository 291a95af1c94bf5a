#!lua flags=allow-oom
-- load: start an epoch in one shard, forgetting everything of earlier ones.
-- KEYS     1 state  2 reservations  3 records  4 units
-- ARGV     1 epoch  2 lineage  3 switch  4 starts_at  5 ends_at  6 user_limit  7 remembers_all  8 skus  then skus x {available}
-- RETURNS  0 known_epoch · 1 done
-- KEEPS    the epoch of a lineage only grows;  reserved = 0
-- COST     O(skus); runs when memory is full, because it frees what it replaces
--
-- A node of another lineage forgot or rolled back what it left here, so that does not count as loaded.
-- Redis stores the units of reservations in fields called held.
local call = redis.call
local stored = call('HMGET', KEYS[1], 'epoch', 'lineage')
if stored[1] and stored[2] == ARGV[2] and tonumber(stored[1]) >= tonumber(ARGV[1]) then
    return 0
end

local state = {
    'epoch', ARGV[1], 'lineage', ARGV[2], 'switch', ARGV[3], 'starts_at', ARGV[4], 'ends_at', ARGV[5],
    'user_limit', ARGV[6], 'remembers_all', ARGV[7], 'skus', ARGV[8],
}
for sku = 0, tonumber(ARGV[8]) - 1 do
    local n = #state
    state[n + 1], state[n + 2] = 'available' .. sku, ARGV[9 + sku]
    state[n + 3], state[n + 4] = 'held' .. sku, '0'
end
-- A value this long makes Redis keep the hash as a table: it searches a small hash from end to end.
local long = string.rep('.', 65)
call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
call('HSET', KEYS[1], unpack(state))
call('HSET', KEYS[2], '', long)
call('HSET', KEYS[3], '', long)
return 1
