#!lua flags=allow-oom
-- level: the units and reservations of one shard, in whatever epoch.
-- KEYS     1 state  2 reservations
-- ARGV     1 lineage
-- RETURNS  {epoch, reservations, switch, then skus x {available, reserved}}; {0, 0} for a shard not loaded, or by another lineage
-- KEEPS    writes nothing
-- COST     O(skus)
--
-- Not marked no-writes: a node that became a replica must refuse this script like the others.
-- Redis stores the units of reservations in fields called held.
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
local reservations = math.max(redis.call('HLEN', KEYS[2]) - 1, 0)
return {state[1], reservations, state[4], unpack(level)}
