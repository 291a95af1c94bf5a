#!lua flags=allow-oom
-- level: what one shard holds, in whatever epoch.
-- KEYS     1 state  2 holds
-- ARGV     1 lineage
-- RETURNS  {epoch, holds, switch, then skus x {available, held}}; {0, 0} for a shard not loaded, or by another lineage
-- KEEPS    writes nothing
-- COST     O(skus)
--
-- Not marked no-writes: a node that was made a replica must refuse this like the others.
local state = redis.call('HMGET', KEYS[1], 'epoch', 'lineage', 'skus', 'switch')
if not state[1] or state[2] ~= ARGV[1] then
    return {'0', 0}
end
local fields = {}
for sku = 0, tonumber(state[3]) - 1 do
    fields[2 * sku + 1], fields[2 * sku + 2] = 'available' .. sku, 'held' .. sku
end
local level = {}
if #fields > 0 then
    level = redis.call('HMGET', KEYS[1], unpack(fields))
end
-- The empty field is not a reservation.
local holds = math.max(redis.call('HLEN', KEYS[2]) - 1, 0)
return {state[1], holds, state[4], unpack(level)}
