-- Orders for wrk, one path at a time:
--
--   wrk -t2 -c64 -d5s -s load-tests/orders.lua http://127.0.0.1:8080 -- PATH SALE RUN KEYS
--
-- PATH   accepted, sold_out  every request is a new user with a new key
--        replay              KEYS orders that were made before, in turn: user N with key RUN-N
--        reused              the same, with another quantity: 422
--        mixed               a crowd with several orders each, three in ten of them retries of a recent one
--        storm               one user, one key; who comes while the order is being recorded waits for it
--        malformed           half a body: 400
--        life                what is done to orders after they were made: the requests of the file SALE, each once
-- SALE   the sale to order from, sku sku-1
-- RUN    makes the keys of this run different from those of every other
--
-- RUSHGATE_HOSTS=127.0.0.1:8080,127.0.0.1:8081 spreads the threads over several engines.
--
-- No `response` function, which would be called for every reply: statuses are counted by wrk, outcomes by the server.

local threads = 0

-- One address per engine; the one on the command line if the variable is not set.
local addresses = {}
for host, port in (os.getenv("RUSHGATE_HOSTS") or ""):gmatch("([^,:]+):(%d+)") do
  addresses[#addresses + 1] = wrk.lookup(host, port)[1]
end

function setup(thread)
  thread:set("thread_no", threads)
  if #addresses > 0 then
    thread.addr = addresses[threads % #addresses + 1]
  end
  threads = threads + 1
end

-- A request cut in pieces at its two marks, so that each one costs a concatenation. Which mark comes first is up to
-- the Lua table that holds the headers.
local function cut(request)
  local user_at, user_end = request:find("@user@", 1, true)
  local key_at, key_end = request:find("@key@", 1, true)
  local user_first = user_at < key_at
  if not user_first then
    user_at, user_end, key_at, key_end = key_at, key_end, user_at, user_end
  end
  return user_first, { request:sub(1, user_at - 1), request:sub(user_end + 1, key_at - 1), request:sub(key_end + 1) }
end

-- Requests as they go over the wire, each behind a line with its length. `again`: from the first one, until the time is
-- over; else a thread that has sent its share stops, and whoever started wrk ends it with SIGINT.
local function from_file(file, again, every, connections)
  local mine, number = {}, 0
  local input = assert(io.open(file, "rb"))
  for length in input:lines() do
    local one = input:read(tonumber(length))
    if number % every == thread_no then
      mine[#mine + 1] = one
    end
    number = number + 1
  end
  input:close()
  -- wrk asks the first thread for a request that it never sends, and answers come in any order: as many as there are
  -- connections are sent once more before a thread stops.
  local sent, last = 0, #mine + connections
  return function()
    sent = sent + 1
    if not again and sent > last then
      wrk.thread:stop()
    end
    return mine[(sent - 1) % #mine + 1]
  end
end

function init(args)
  local path, sale = args[1] or "accepted", args[2] or "demo"
  local run, keys = args[3] or tostring(os.time()), tonumber(args[4] or 1000)
  if path == "life" then
    request = from_file(sale, run == "again", tonumber(args[5]), keys)
    return
  end
  local bodies = {
    reused = '{"sale_id":"' .. sale .. '","sku_id":"sku-1","quantity":2}',
    malformed = '{"sale_id":"' .. sale .. '","sku_id":"sk',
  }
  local body = bodies[path] or '{"sale_id":"' .. sale .. '","sku_id":"sku-1","quantity":1}'
  local headers = { ["Content-Type"] = "application/json", ["X-User-Id"] = "@user@", ["Idempotency-Key"] = "@key@" }
  if path == "storm" then
    headers["Prefer"] = "wait=5"
  end
  local user_first, parts = cut(wrk.format("POST", "/v1/orders", headers, body))
  local function order(user, key)
    if user_first then
      return parts[1] .. user .. parts[2] .. key .. parts[3]
    end
    return parts[1] .. key .. parts[2] .. user .. parts[3]
  end

  local sent = 0
  if path == "replay" or path == "reused" then
    -- The threads start at different places.
    sent = thread_no * 997
    request = function()
      sent = sent % keys + 1
      return order(sent, run .. "-" .. sent)
    end
  elseif path == "storm" then
    local the_one = order(42, run)
    request = function() return the_one end
  else
    local seed = thread_no
    for at = 1, #run do
      seed = (seed * 31 + run:byte(at)) % 0x7fffffff
    end
    math.randomseed(seed)
    if path == "mixed" then
      request = function()
        sent = sent + 1
        local which = sent
        if math.random() < 0.3 then
          which = math.max(1, sent - math.random(100))
        end
        -- The threads share their numbers, so they retry each other's orders as well.
        return order(1 + which * 7919 % 20011, run .. "-" .. which)
      end
      return
    end
    local mine = run .. "-" .. thread_no .. "-"
    request = function()
      sent = sent + 1
      return order(math.random(1, 0x7fffffff), mine .. sent)
    end
  end
end

-- One line that a script can read.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("measured requests=%d microseconds=%d p50=%d p99=%d p999=%d refused=%d broken=%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
