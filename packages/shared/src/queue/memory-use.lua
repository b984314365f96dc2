-- What the bounds on memory are judged by. Costs 50 µs, most of it for INFO.
-- Returns { log entries, log bytes, dead letters, dead bytes, used bytes, maxmemory (0: no limit), deliveries that wait
-- outside the stream }. A number that the server does not tell (a managed one may not allow the command) is 0.
local function bytesOf(key)
  local bytes = redis.pcall('MEMORY', 'USAGE', key, 'SAMPLES', 10)
  return type(bytes) == 'number' and bytes or 0
end
local info = redis.pcall('INFO', 'memory')
local function fact(name)
  return type(info) == 'string' and tonumber(string.match(info, '\n' .. name .. ':(%d+)')) or 0
end
return {
  redis.call('XLEN', log), bytesOf(log), redis.call('XLEN', dead), bytesOf(dead),
  fact('used_memory') - fact('mem_not_counted_for_evict'), fact('maxmemory'),
  redis.call('ZCARD', retries) + redis.call('HLEN', waitingData),
}
