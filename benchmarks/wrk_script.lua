-- Many images with many tokens, and one line of JSON for benchmarks/load.py.
-- Source: https://github.com/wg/wrk/blob/master/SCRIPTING (times are in microseconds)
-- Arguments, if any: a Traffic of benchmarks/pump.py (paths, heads, exponent or "turns", seed), and
-- what stands before the path and behind it in a request.

local function lines_of(name)
  local found = {}
  for line in io.lines(name) do found[#found + 1] = line end
  return found
end

local function by_turns(paths)
  local last = math.random(#paths)
  return function()
    last = last % #paths + 1
    return paths[last]
  end
end

local function by_zipf(paths, exponent)
  local bounds, sum = {}, 0
  for rank = 1, #paths do
    sum = sum + rank ^ -exponent
    bounds[rank] = sum
  end
  return function()
    local drawn, low, high = math.random() * sum, 1, #paths
    while low < high do
      local middle = math.floor((low + high) / 2)
      if bounds[middle] < drawn then low = middle + 1 else high = middle end
    end
    return paths[low]
  end
end

init = function(args)
  if #args == 0 then return end
  local paths, heads = lines_of(args[1]), lines_of(args[2])
  math.randomseed(tonumber(args[4]))
  local path = args[3] == "turns" and by_turns(paths) or by_zipf(paths, tonumber(args[3]))
  local before = "GET " .. args[5]
  for number, head in ipairs(heads) do
    heads[number] = args[6] .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\n"
      .. head:gsub("\t", "\r\n") .. "\r\n\r\n"
  end
  request = function()
    return before .. path() .. heads[math.random(#heads)]
  end
end

done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "refused": %d, "broken": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
