#!lua flags=allow-oom
-- settle: say what became of reservations; those that are not held are left alone.
-- KEYS     1 state  2 holds  3 records  4 units
-- ARGV     1 epoch  2 lineage  3 recorded  4 others  then recorded x {order_no}  then others x {what, order_no, record}
-- RETURNS  0 stale_epoch · 1 done
-- KEEPS    held = units of holds;  units go back once;  an order_no is in holds or in records, never in both
-- COST     O(settlements); runs when memory is full, for a record is smaller than its hold
--
-- what: k known_before, r refused, v void, a abandoned; record is empty but for k. A recorded order keeps the
-- created_at of its hold. No order_no comes twice.
local call, sub, unpack, number = redis.call, string.sub, unpack, struct.unpack
local recorded, others = tonumber(ARGV[3]), tonumber(ARGV[4])

-- First everything is read and taken apart, so that what is wrong is found before the first write.
local state = call('HMGET', KEYS[1], 'epoch', 'lineage', 'user_limit')
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then
    return 0
end

local ended, kept, n = {}, {}, 0
-- How many holds of each (sku, quantity) ended, by their bytes: most are the same few.
local gone = {}
local orders = {}
for i = 1, others do
    orders[i] = ARGV[3 + recorded + 3 * i]
end
-- The empty field stands in both hashes since they were loaded: without it somebody deleted them.
local holds = call('HMGET', KEYS[2], '', unpack(ARGV, 5, 4 + recorded))
local other_holds = others > 0 and call('HMGET', KEYS[2], '', unpack(orders))
if not holds[1] or not call('HGET', KEYS[3], '') then
    return 0
end

for i = 1, recorded do
    local hold = holds[i + 1]
    if hold then
        n = n + 1
        local order_no = ARGV[4 + i]
        ended[n] = order_no
        kept[2 * n - 1] = order_no
        kept[2 * n] = sub(hold, 1, 14)
        local what = sub(hold, 31, 36)
        gone[what] = (gone[what] or 0) + 1
    end
end

local limited = tonumber(state[3])
local back, abandoned, users, less = {}, {}, {}, {}
for i = 1, others do
    local what, order_no, hold = ARGV[2 + recorded + 3 * i], orders[i], other_holds[i + 1]
    if what == 'k' then
        kept[#kept + 1] = order_no
        kept[#kept + 1] = ARGV[4 + recorded + 3 * i]
    end
    if hold and what == 'a' then
        abandoned[#abandoned + 1] = order_no
        abandoned[#abandoned + 1] = sub(hold, 1, 44) .. '\0\0\0\0\0\0'
    elseif hold then
        n = n + 1
        ended[n] = order_no
        local bytes = sub(hold, 31, 36)
        local sku, quantity = number('>I2I4', bytes)
        gone[bytes] = (gone[bytes] or 0) + 1
        if what ~= 'v' then
            back[sku] = (back[sku] or 0) + quantity
        end
        if limited then
            local buyer = sub(hold, 23, 32)
            if not less[buyer] then
                users[#users + 1] = buyer
            end
            less[buyer] = (less[buyer] or 0) + quantity
        end
    end
end

local used, unused = {}, {}
if #users > 0 then
    local bought = call('HMGET', KEYS[4], unpack(users))
    for i, buyer in ipairs(users) do
        local left = (bought[i] or 0) - less[buyer]
        if left > 0 then
            used[#used + 1], used[#used + 2] = buyer, left
        else
            unused[#unused + 1] = buyer
        end
    end
end

local held = {}
for bytes, count in pairs(gone) do
    local sku, quantity = number('>I2I4', bytes)
    held[sku] = (held[sku] or 0) + quantity * count
end
local fields, changes, levels = {}, {}, {}
for sku, units in pairs(held) do
    fields[#fields + 1], changes[#changes + 1] = 'held' .. sku, 0 - units
end
for sku, units in pairs(back) do
    fields[#fields + 1], changes[#changes + 1] = 'available' .. sku, units
end
if #fields > 1 then
    local before = call('HMGET', KEYS[1], unpack(fields))
    for i, field in ipairs(fields) do
        levels[2 * i - 1], levels[2 * i] = field, before[i] + changes[i]
    end
end

-- Common case, for which nothing is read: a single number is checked by the command that changes it, the first write.
if #fields == 1 then
    call('HINCRBY', KEYS[1], fields[1], changes[1])
elseif #fields > 1 then
    call('HSET', KEYS[1], unpack(levels))
end
if n > 0 then
    call('HDEL', KEYS[2], unpack(ended))
end
if #kept > 0 then
    call('HSET', KEYS[3], unpack(kept))
end
if #abandoned > 0 then
    call('HSET', KEYS[2], unpack(abandoned))
end
if #used > 0 then
    call('HSET', KEYS[4], unpack(used))
end
if #unused > 0 then
    call('HDEL', KEYS[4], unpack(unused))
end
return 1
