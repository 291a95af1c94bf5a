#!lua
-- reserve: hold units for each order of a batch, once per order_no; known orders are recognised first.
-- KEYS     1 state  2 holds  3 records  4 units
-- ARGV     1 epoch  2 lineage  3 now_ms  4 lease_ms_max  5 may  6 asks  7 skus  then skus x {sku, units}  then asks x {order_no, hold}
-- RETURNS  0 stale_epoch or 1 all_reserved, else {codes, created_at of 1 2 3, sale_state, starts_at, remembers_all}; codes:
--          0 reserved · 1 reserved_again · 2 resumed · 3 recorded · 4 in_flight · 5 other_content · 6 unfamiliar
--          7 segment_empty · 8 user_limit · 9 not_open
-- KEEPS    available >= 0;  held = units of holds;  an order_no is in holds or in records, never in both
-- COST     O(asks); refused before it starts when memory is full
--
-- may is empty if every ask may create, else a letter per ask: c create, r resume, l look. No order_no comes twice.
-- A hold is 50 bytes, so that a record is its beginning and nothing is taken apart for a new order:
-- fingerprint 8, created_at 6 | fingerprint 8 | user 8, sku 2, quantity 4 | by 8, until_ms 6.
local call, sub, unpack = redis.call, string.sub, unpack
local asks, skus = tonumber(ARGV[6]), tonumber(ARGV[7])
local first = 8 + 2 * skus

local fields = {'epoch', 'lineage', 'switch', 'starts_at', 'ends_at', 'user_limit', 'remembers_all'}
for i = 8, first - 1, 2 do
    fields[i], fields[i + 1] = 'available' .. ARGV[i], 'held' .. ARGV[i]
end
local state = call('HMGET', KEYS[1], unpack(fields))
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then
    return 0
end

local orders = {}
for i = 1, asks do
    orders[i] = ARGV[first + 2 * i - 2]
end
-- The empty field stands in both hashes since they were loaded: without it somebody deleted them.
local holds = call('HMGET', KEYS[2], '', unpack(orders))
local records = call('HMGET', KEYS[3], '', unpack(orders))
if not holds[1] or not records[1] then
    return 0
end

local now, starts_at, ends_at = tonumber(ARGV[3]), tonumber(state[4]), tonumber(state[5])
local sale_state = 0
if state[3] == '2' or (ends_at and now >= ends_at) then
    sale_state = 3
elseif state[3] == '1' then
    sale_state = 2
elseif starts_at and now < starts_at then
    sale_state = 1
end
local may, limit = ARGV[5], tonumber(state[6])

-- Common case: all orders are new and there is enough for all of them.
local plain = may == '' and sale_state == 0 and not limit
for i = 8, first - 1, 2 do
    local available, units = tonumber(state[i]), tonumber(ARGV[i + 1])
    if not available or available < units then
        plain = false
        break
    end
    state[i], state[i + 1] = available - units, state[i + 1] + units
end
if plain then
    for i = 2, asks + 1 do
        if holds[i] or records[i] then
            plain = false
            break
        end
    end
end
if plain then
    local levels = {}
    for i = 8, first - 1, 2 do
        levels[2 * i - 15], levels[2 * i - 14] = fields[i], state[i]
        levels[2 * i - 13], levels[2 * i - 12] = fields[i + 1], state[i + 1]
    end
    call('HSET', KEYS[2], unpack(ARGV, first, first + 2 * asks - 1))
    call('HSET', KEYS[1], unpack(levels))
    return 1
end

-- One by one.
local number = struct.unpack
local lease = tonumber(ARGV[4])
local available, held, changed = {}, {}, {}
state = call('HMGET', KEYS[1], unpack(fields))
for i = 8, first - 1, 2 do
    local sku = tonumber(ARGV[i])
    available[sku], held[sku] = tonumber(state[i]), tonumber(state[i + 1])
end
local units, used = {}, {}
if limit then
    local buyers = {}
    for i = 1, asks do
        buyers[i] = sub(ARGV[first + 2 * i - 1], 23, 32)
    end
    local bought = call('HMGET', KEYS[4], unpack(buyers))
    for i = 1, asks do
        units[buyers[i]] = tonumber(bought[i] or 0)
    end
end

local codes, created_at, written = {}, {}, {}
for i = 1, asks do
    local order_no, hold = orders[i], ARGV[first + 2 * i - 1]
    local record, known = records[i + 1], holds[i + 1]
    local may_i = may == '' and 'c' or sub(may, i, i)
    local code
    if record then
        code = 5
        if sub(record, 1, 8) == sub(hold, 1, 8) then
            code = 3
            created_at[#created_at + 1] = sub(record, 9, 14)
        end
    elseif known then
        local left = number('>I6', known, 45) - now
        if sub(known, 1, 8) ~= sub(hold, 1, 8) or sub(known, 15, 22) ~= sub(hold, 15, 22) then
            code = 5
        elseif may_i ~= 'l' and sub(known, 37, 44) == sub(hold, 37, 44) then
            code = 1
        elseif may_i == 'l' or (0 < left and left <= lease) then
            code = 4
        else
            code = 2
            written[#written + 1] = order_no
            written[#written + 1] = sub(known, 1, 36) .. sub(hold, 37, 50)
        end
        if code == 1 or code == 2 then
            created_at[#created_at + 1] = sub(known, 9, 14)
        end
    elseif may_i ~= 'c' then
        code = 6
    elseif sale_state ~= 0 then
        code = 9
    else
        local sku, quantity = number('>I2I4', hold, 31)
        local buyer = limit and sub(hold, 23, 32)
        if limit and units[buyer] + quantity > limit then
            code = 8
        elseif not available[sku] or available[sku] < quantity then
            code = 7
        else
            code = 0
            available[sku], held[sku] = available[sku] - quantity, held[sku] + quantity
            changed[sku] = true
            if limit then
                units[buyer] = units[buyer] + quantity
                used[buyer] = true
            end
            written[#written + 1] = order_no
            written[#written + 1] = hold
        end
    end
    codes[i] = code
end

local levels, bought = {}, {}
for sku in pairs(changed) do
    levels[#levels + 1], levels[#levels + 2] = 'available' .. sku, available[sku]
    levels[#levels + 1], levels[#levels + 2] = 'held' .. sku, held[sku]
end
for buyer in pairs(used) do
    bought[#bought + 1], bought[#bought + 2] = buyer, units[buyer]
end
if #written > 0 then
    call('HSET', KEYS[2], unpack(written))
end
if #levels > 0 then
    call('HSET', KEYS[1], unpack(levels))
end
if #bought > 0 then
    call('HSET', KEYS[4], unpack(bought))
end
return {table.concat(codes), table.concat(created_at), sale_state, state[4], state[7]}
