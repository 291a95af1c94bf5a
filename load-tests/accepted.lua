-- Accepted: every request is a new user with a new key, so every one makes an order.
local thread_count = 0
function setup(thread)
  thread:set("thread_no", thread_count)
  thread_count = thread_count + 1
end

function init()
  math.randomseed(os.time() + thread_no * 7919)
  run = string.format("%08x%x", math.random(0, 0x7fffffff), thread_no)
  sent = 0
  headers = { ["Content-Type"] = "application/json" }
end

function request()
  sent = sent + 1
  headers["X-User-Id"] = string.format("%d", math.random(1, 0x7fffffff))
  headers["Idempotency-Key"] = run .. sent
  return wrk.format("POST", "/v1/orders", headers, '{"sale_id":"load","sku_id":"sku-1","quantity":1}')
end

local other = 0
function response(status)
  if status ~= 201 then
    other = other + 1
    wrk.thread:set("other", other)
  end
end
