#!lua
-- reserve: reserve units for each order of a batch, once per order_no; known orders are recognised first.
-- KEYS     1 state  2 reservations  3 records  4 units
-- ARGV     1 epoch  2 lineage  3 now_ms  4 lease_ms_max  5 modes  6 requests  7 skus
--          then skus x {sku, units}  then requests x {order_no, reservation}
-- RETURNS  0 stale_epoch or 1 all_reserved, else {codes, created_at of 1 2 3, sale_state, starts_at, remembers_all}; codes:
--          0 reserved · 1 reserved_again · 2 resumed · 3 recorded · 4 in_flight · 5 other_content · 6 not_found
--          7 segment_empty · 8 user_limit · 9 not_open
-- KEEPS    available >= 0;  reserved = units of reservations;  an order_no is in reservations or in records, never in both
-- COST     O(requests); refused before it starts when memory is full
--
-- modes is empty if every request may create, else a letter per request: c create, r resume, l look. No order_no comes
-- twice. A reservation is 50 bytes, so that a record is its beginning and a new order needs no parsing. Redis stores the
-- units of reservations in fields called held.

-- Bytes of a reservation: where its fields begin and end.
local FINGERPRINT, FINGERPRINT_END = 1, 8
local CREATED_AT, CREATED_AT_END = 9, 14
local FINGERPRINT_REST, FINGERPRINT_REST_END = 15, 22
local USER, SKU, SKU_END, QUANTITY_END = 23, 31, 32, 36
local ATTEMPT_ID, ATTEMPT_ID_END, UNTIL, UNTIL_END = 37, 44, 45, 50
-- Modes.
local CREATE, LOOK = 'c', 'l'
-- Answers to the whole call, and codes of each request.
local STALE_EPOCH, ALL_RESERVED = 0, 1
local RESERVED, RESERVED_AGAIN, RESUMED, RECORDED, IN_FLIGHT, OTHER_CONTENT, NOT_FOUND = 0, 1, 2, 3, 4, 5, 6
local SEGMENT_EMPTY, USER_LIMIT, NOT_OPEN = 7, 8, 9
-- Sale states.
local OPEN, SCHEDULED, PAUSED, ENDED = 0, 1, 2, 3

local call, sub, unpack = redis.call, string.sub, unpack
local requests, skus = tonumber(ARGV[6]), tonumber(ARGV[7])
local first = 8 + 2 * skus

local fields = {'epoch', 'lineage', 'switch', 'starts_at', 'ends_at', 'user_limit', 'remembers_all'}
for i = 8, first - 1, 2 do
    fields[i], fields[i + 1] = 'available' .. ARGV[i], 'held' .. ARGV[i]
end
local state = call('HMGET', KEYS[1], unpack(fields))
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then
    return STALE_EPOCH
end

local orders = {}
for i = 1, requests do
    orders[i] = ARGV[first + 2 * i - 2]
end
-- Both hashes have an empty field since the load: without it they were deleted.
local reservations = call('HMGET', KEYS[2], '', unpack(orders))
local records = call('HMGET', KEYS[3], '', unpack(orders))
if not reservations[1] or not records[1] then
    return STALE_EPOCH
end

local now, starts_at, ends_at = tonumber(ARGV[3]), tonumber(state[4]), tonumber(state[5])
local sale_state = OPEN
if state[3] == '2' or (ends_at and now >= ends_at) then
    sale_state = ENDED
elseif state[3] == '1' then
    sale_state = PAUSED
elseif starts_at and now < starts_at then
    sale_state = SCHEDULED
end
local modes, limit = ARGV[5], tonumber(state[6])

-- Common case: all orders are new and there is enough for all of them.
local plain = modes == '' and sale_state == OPEN and not limit
for i = 8, first - 1, 2 do
    local available, units = tonumber(state[i]), tonumber(ARGV[i + 1])
    if not available or available < units then
        plain = false
        break
    end
    state[i], state[i + 1] = available - units, state[i + 1] + units
end
if plain then
    for i = 2, requests + 1 do
        if reservations[i] or records[i] then
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
    call('HSET', KEYS[2], unpack(ARGV, first, first + 2 * requests - 1))
    call('HSET', KEYS[1], unpack(levels))
    return ALL_RESERVED
end

-- Uncommon case: one by one.
local number = struct.unpack
local lease = tonumber(ARGV[4])
local available, reserved, changed = {}, {}, {}
state = call('HMGET', KEYS[1], unpack(fields))
for i = 8, first - 1, 2 do
    local sku = tonumber(ARGV[i])
    available[sku], reserved[sku] = tonumber(state[i]), tonumber(state[i + 1])
end
local units, used = {}, {}
if limit then
    local buyers = {}
    for i = 1, requests do
        buyers[i] = sub(ARGV[first + 2 * i - 1], USER, SKU_END)
    end
    local bought = call('HMGET', KEYS[4], unpack(buyers))
    for i = 1, requests do
        units[buyers[i]] = tonumber(bought[i] or 0)
    end
end

local codes, created_at, written = {}, {}, {}
for i = 1, requests do
    local order_no, reservation = orders[i], ARGV[first + 2 * i - 1]
    local record, known = records[i + 1], reservations[i + 1]
    local mode = modes == '' and CREATE or sub(modes, i, i)
    local code
    if record then
        code = OTHER_CONTENT
        if sub(record, FINGERPRINT, FINGERPRINT_END) == sub(reservation, FINGERPRINT, FINGERPRINT_END) then
            code = RECORDED
            created_at[#created_at + 1] = sub(record, CREATED_AT, CREATED_AT_END)
        end
    elseif known then
        local left = number('>I6', known, UNTIL) - now
        if
            sub(known, FINGERPRINT, FINGERPRINT_END) ~= sub(reservation, FINGERPRINT, FINGERPRINT_END)
            or sub(known, FINGERPRINT_REST, FINGERPRINT_REST_END)
                ~= sub(reservation, FINGERPRINT_REST, FINGERPRINT_REST_END)
        then
            code = OTHER_CONTENT
        elseif mode ~= LOOK and sub(known, ATTEMPT_ID, ATTEMPT_ID_END) == sub(reservation, ATTEMPT_ID, ATTEMPT_ID_END) then
            code = RESERVED_AGAIN
        elseif mode == LOOK or (0 < left and left <= lease) then
            code = IN_FLIGHT
        else
            code = RESUMED
            written[#written + 1] = order_no
            written[#written + 1] = sub(known, 1, QUANTITY_END) .. sub(reservation, ATTEMPT_ID, UNTIL_END)
        end
        if code == RESERVED_AGAIN or code == RESUMED then
            created_at[#created_at + 1] = sub(known, CREATED_AT, CREATED_AT_END)
        end
    elseif mode ~= CREATE then
        code = NOT_FOUND
    elseif sale_state ~= OPEN then
        code = NOT_OPEN
    else
        local sku, quantity = number('>I2I4', reservation, SKU)
        local buyer = limit and sub(reservation, USER, SKU_END)
        if limit and units[buyer] + quantity > limit then
            code = USER_LIMIT
        elseif not available[sku] or available[sku] < quantity then
            code = SEGMENT_EMPTY
        else
            code = RESERVED
            available[sku], reserved[sku] = available[sku] - quantity, reserved[sku] + quantity
            changed[sku] = true
            if limit then
                units[buyer] = units[buyer] + quantity
                used[buyer] = true
            end
            written[#written + 1] = order_no
            written[#written + 1] = reservation
        end
    end
    codes[i] = code
end

local levels, bought = {}, {}
for sku in pairs(changed) do
    levels[#levels + 1], levels[#levels + 2] = 'available' .. sku, available[sku]
    levels[#levels + 1], levels[#levels + 2] = 'held' .. sku, reserved[sku]
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
