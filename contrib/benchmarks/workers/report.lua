-- The requests of wrk, and an exact report of its counts.
-- Optional arguments: the number of requests that are sent at once, and a JSON text to post with each.
function init(args)
  local depth, body = tonumber(args[1]) or 1, args[2]
  if body then
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
