#!lua flags=allow-oom
-- adjust: put units of one sku on sale, or take up to that many away.
-- KEYS     1 state
-- ARGV     1 epoch  2 lineage  3 sku  4 units
-- RETURNS  how many units moved; 0 for a stale epoch or an unknown sku
-- KEEPS    available >= 0
-- COST     O(1)
local state = redis.call('HMGET', KEYS[1], 'epoch', 'lineage', 'available' .. ARGV[3])
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] or not state[3] then
    return 0
end
local moved = math.max(tonumber(ARGV[4]), -tonumber(state[3]))
-- No write when no unit moves: HINCRBY refuses the -0 that this may be.
if moved ~= 0 then
    redis.call('HINCRBY', KEYS[1], 'available' .. ARGV[3], moved)
end
return math.abs(moved)
