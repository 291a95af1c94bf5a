#!lua flags=allow-oom
-- settle: end reservations as the ledger decided; an unknown reservation is left alone.
-- KEYS     1 state  2 reservations  3 records  4 units
-- ARGV     1 epoch  2 lineage  3 commits  4 others  then commits x {order_no}  then others x {settlement, order_no, record}
-- RETURNS  0 stale_epoch · 1 done
-- KEEPS    reserved = units of reservations;  units go back once;  an order_no is in reservations or in records, never in both
-- COST     O(settlements); runs when memory is full, because a record is smaller than its reservation
--
-- settlement: e commit_earlier · r release · w write_off · a abandon; record is empty except for e.
-- A commit keeps the created_at of its reservation. Only a write_off keeps the units out of the gate; abandon ends the
-- lease. No order_no comes twice. Redis stores the units of reservations in fields called held.

-- Bytes of a reservation; its beginning is the record.
local CREATED_AT_END = 14
local USER, SKU, SKU_END, QUANTITY_END = 23, 31, 32, 36
local ATTEMPT_ID_END = 44
-- Settlements.
local COMMIT_EARLIER, WRITE_OFF, ABANDON = 'e', 'w', 'a'
-- An until_ms in the past.
local LEASE_OVER = '\0\0\0\0\0\0'

local call, sub, unpack, number = redis.call, string.sub, unpack, struct.unpack
local commits, others = tonumber(ARGV[3]), tonumber(ARGV[4])

-- Reads and parses everything first, so that an error shows before the first write.
local state = call('HMGET', KEYS[1], 'epoch', 'lineage', 'user_limit')
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then
    return 0
end

local ended, recorded, n = {}, {}, 0
-- How many reservations of each (sku, quantity) ended, by their bytes: most are the same few.
local gone = {}
local orders = {}
for i = 1, others do
    orders[i] = ARGV[3 + commits + 3 * i]
end
-- Both hashes have an empty field since the load: without it they were deleted.
local reservations = call('HMGET', KEYS[2], '', unpack(ARGV, 5, 4 + commits))
local other_reservations = others > 0 and call('HMGET', KEYS[2], '', unpack(orders))
if not reservations[1] or not call('HGET', KEYS[3], '') then
    return 0
end

for i = 1, commits do
    local reservation = reservations[i + 1]
    if reservation then
        n = n + 1
        local order_no = ARGV[4 + i]
        ended[n] = order_no
        recorded[2 * n - 1] = order_no
        recorded[2 * n] = sub(reservation, 1, CREATED_AT_END)
        local bytes = sub(reservation, SKU, QUANTITY_END)
        gone[bytes] = (gone[bytes] or 0) + 1
    end
end

local limited = tonumber(state[3])
local back, abandoned, users, less = {}, {}, {}, {}
for i = 1, others do
    local settlement, order_no, reservation = ARGV[2 + commits + 3 * i], orders[i], other_reservations[i + 1]
    if settlement == COMMIT_EARLIER then
        recorded[#recorded + 1] = order_no
        recorded[#recorded + 1] = ARGV[4 + commits + 3 * i]
    end
    if reservation and settlement == ABANDON then
        abandoned[#abandoned + 1] = order_no
        abandoned[#abandoned + 1] = sub(reservation, 1, ATTEMPT_ID_END) .. LEASE_OVER
    elseif reservation then
        n = n + 1
        ended[n] = order_no
        local bytes = sub(reservation, SKU, QUANTITY_END)
        local sku, quantity = number('>I2I4', bytes)
        gone[bytes] = (gone[bytes] or 0) + 1
        if settlement ~= WRITE_OFF then
            back[sku] = (back[sku] or 0) + quantity
        end
        if limited then
            local buyer = sub(reservation, USER, SKU_END)
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

local ended_units = {}
for bytes, count in pairs(gone) do
    local sku, quantity = number('>I2I4', bytes)
    ended_units[sku] = (ended_units[sku] or 0) + quantity * count
end
local fields, changes, levels = {}, {}, {}
for sku, units in pairs(ended_units) do
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

-- Common case, in which nothing is read: the command that changes the single number, the first write, also checks it.
if #fields == 1 then
    call('HINCRBY', KEYS[1], fields[1], changes[1])
elseif #fields > 1 then
    call('HSET', KEYS[1], unpack(levels))
end
if n > 0 then
    call('HDEL', KEYS[2], unpack(ended))
end
if #recorded > 0 then
    call('HSET', KEYS[3], unpack(recorded))
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
