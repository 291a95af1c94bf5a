#!lua flags=allow-oom
-- overdue: hand out reservations past their lease, with their lease renewed.
-- KEYS     1 state  2 reservations
-- ARGV     1 epoch  2 lineage  3 now_ms  4 lease_ms_max  5 until_ms  6 max  7 cursor
-- RETURNS  {cursor, then {order_no, reservation} up to max times}; the cursor is 0 at the end and for a stale epoch
-- KEEPS    a reservation is handed out once per lease
-- COST     O(max): one page of the reservations; runs when memory is full, because it only overwrites
--
-- until_ms is packed like that of a reservation. If a page has more than max, the cursor stays, for the rest of it.

-- Bytes of a reservation.
local ATTEMPT_ID_END, UNTIL = 44, 45

local call, sub = redis.call, string.sub
local state = call('HMGET', KEYS[1], 'epoch', 'lineage')
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then
    return {'0'}
end
local now, lease, max = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])
local page = call('HSCAN', KEYS[2], ARGV[7], 'COUNT', ARGV[6])
local found, n = {page[1]}, 1
for i = 1, #page[2], 2 do
    local order_no, reservation = page[2][i], page[2][i + 1]
    if order_no ~= '' then
        -- A lease that ends further off than leases last is from before the clock was set back.
        local left = struct.unpack('>I6', reservation, UNTIL) - now
        if left <= 0 or left > lease then
            if n > 2 * max then
                found[1] = ARGV[7]
                break
            end
            found[n + 1], found[n + 2] = order_no, sub(reservation, 1, ATTEMPT_ID_END) .. ARGV[5]
            n = n + 2
        end
    end
end
if n > 1 then
    call('HSET', KEYS[2], unpack(found, 2, n))
end
return found
