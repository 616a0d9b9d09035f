-- One line of JSON for benchmarks/load.py.
-- Source: https://github.com/wg/wrk/blob/master/SCRIPTING (times are in microseconds)
-- Arguments: a target with {n} in it, and how many there are; each request is for the next one.
local requests, next_one = {}, 0
init = function(args)
  if #args == 0 then return end
  for n = 0, tonumber(args[2]) - 1 do
    requests[n] = wrk.format(nil, (args[1]:gsub("{n}", n)))
  end
  request = function()
    next_one = (next_one + 1) % tonumber(args[2])
    return requests[next_one]
  end
end

done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "refused": %d, "broken": %d, "seconds": %.6f, "p99_ms": %.3f}\n',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration / 1e6, latency:percentile(99) / 1e3))
end
