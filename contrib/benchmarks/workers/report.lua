-- The requests of wrk, and an exact report of its counts.
-- Optional arguments, which can be empty: the number of requests that are sent at once, a JSON text to post with each, and
-- the path of items, of which each is requested once, with fields of its own (bench/requests.py has the same).
local ITEMS, FIRST_ITEM = 20000, 10000

local function item(path, number)
  local mixed = (number * 2654435761) % 4294967296
  -- Lua's numbers are exact up to 2^53, and %x takes no more than 31 bits everywhere
  local hexadecimal = string.format('%04x%04x', math.floor(mixed / 65536), mixed % 65536)
  local headers = {}
  for name, value in pairs(wrk.headers) do headers[name] = value end
  headers['Cookie'] = string.format('session=%s%08x; theme=dark; consent=1', hexadecimal, number)
  headers['X-Request-Id'] = string.format('%08x-%s', number, hexadecimal)
  return wrk.format('GET', string.format('%s%d?q=%s', path, number, hexadecimal), headers)
end

function init(args)
  local depth, body, path = tonumber(args[1]) or 1, args[2], args[3]
  if path then
    -- made in advance, so that wrk stays cheap
    local items, sent = {}, 0
    for index = 1, ITEMS do items[index] = item(path, FIRST_ITEM + index - 1) end
    request = function()
      sent = sent % ITEMS + 1
      return items[sent]
    end
    return
  end
  if body and body ~= '' then
    wrk.method = 'POST'
    wrk.body = body
    wrk.headers['Content-Type'] = 'application/json'
  end
  if depth > 1 then
    local batch = string.rep(wrk.format(), depth)
    request = function() return batch end
  end
end

-- Prints exact numbers as one line of JSON, because wrk's own report is rounded. Settled is the median of the rates in each
-- tenth of a second. Runs once, after the load.
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nreport {"requests": %d, "microseconds": %d, "bytes": %d, "connect": %d, "read": %d, "write": %d, ' ..
    '"status": %d, "timeout": %d, "settled": %d, "p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, summary.bytes, errors.connect, errors.read, errors.write,
    errors.status, errors.timeout, requests:percentile(50), latency:percentile(50), latency:percentile(99)))
end
