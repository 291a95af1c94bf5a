#!lua flags=allow-oom
-- return_units: put units on sale again that the ledger took back, and subtract them from what their users have.
-- KEYS     1 state  2 units
-- ARGV     1 epoch  2 lineage  3 returns  then returns x {buyer, units}
-- RETURNS  0 stale_epoch · 1 done
-- KEEPS    units of a user >= 0: an order of an earlier epoch was never counted in this one
-- COST     O(returns); runs when memory is full, because it only changes numbers
--
-- A buyer is 10 bytes, as in a reservation: user 8, sku 2. The script skips a sku that the shard does not have.
local call, unpack, number = redis.call, unpack, struct.unpack

-- Reads and parses everything first, so that an error shows before the first write.

-- Bytes of a buyer.
local BUYER_SKU = 9

local fields, buyers, more, less = {'epoch', 'lineage', 'user_limit'}, {}, {}, {}
for i = 4, 2 + 2 * tonumber(ARGV[3]), 2 do
    local buyer, units = ARGV[i], tonumber(ARGV[i + 1])
    local field = 'available' .. number('>I2', buyer, BUYER_SKU)
    if not more[field] then
        fields[#fields + 1] = field
    end
    if not less[buyer] then
        buyers[#buyers + 1] = buyer
    end
    more[field] = (more[field] or 0) + units
    less[buyer] = (less[buyer] or 0) + units
end
local state = call('HMGET', KEYS[1], unpack(fields))
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then
    return 0
end
local levels, known = {}, {}
for i = 4, #fields do
    if state[i] then
        known[fields[i]] = true
        levels[#levels + 1], levels[#levels + 2] = fields[i], state[i] + more[fields[i]]
    end
end

local used, unused = {}, {}
if tonumber(state[3]) and #buyers > 0 then
    local bought = call('HMGET', KEYS[2], unpack(buyers))
    for i, buyer in ipairs(buyers) do
        if bought[i] and known['available' .. number('>I2', buyer, BUYER_SKU)] then
            local left = bought[i] - less[buyer]
            if left > 0 then
                used[#used + 1], used[#used + 2] = buyer, left
            else
                unused[#unused + 1] = buyer
            end
        end
    end
end

if #levels > 0 then
    call('HSET', KEYS[1], unpack(levels))
end
if #used > 0 then
    call('HSET', KEYS[2], unpack(used))
end
if #unused > 0 then
    call('HDEL', KEYS[2], unpack(unused))
end
return 1
