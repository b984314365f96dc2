-- Ends one entry that cannot be settled, or even read, in the usual way. This must work whatever the entry holds: its
-- delivery's id and attempt are taken from it as they stand, nothing is parsed, and what is written is bounded.
-- ARGV  group, consumer, entryId, the delivery id if the entry gives none, isDelivered (1 or 0), reason (plain text without
--       quotes or control characters), present time (ISO 8601)
-- Returns 1 buried, 0 stale: another consumer owns the entry or has settled it. A delivered one counts whoever owns it.
local group, consumer, entryId, derivedId, isDelivered, reason, at = unpack(ARGV)
mayWriteWhenFull() -- burying frees memory
-- A key of the wrong type must fail here, before the first write.
redis.call('XLEN', dead)
redis.call('XLEN', log)
local pending = redis.call('XPENDING', stream, group, entryId, entryId, 1)[1]
if not pending or (isDelivered == '0' and pending[2] ~= consumer) then return 0 end

local UUID = '^' .. string.rep('%x', 8) .. string.rep('%-' .. string.rep('%x', 4), 3) .. '%-' .. string.rep('%x', 12) .. '$'
local MOST_FIELDS, MOST_BYTES = 50, 1000000
local SECRET_NAMES = { 'secret', 'headers', 'token', 'password', 'authorization', 'apikey', 'api_key' }
local OWN_NAMES = { kind = true, id = true, reason = true, failed_at = true }

local function isSecret(name)
  for _, part in ipairs(SECRET_NAMES) do
    if string.find(string.lower(name), part, 1, true) then return true end
  end
  return false
end

local entry = redis.call('XRANGE', stream, entryId, entryId)[1]
local fields = entry and entry[2] or {}
local deliveryId, attempt, kept, bytes = derivedId, '1', {}, 0
for i = 1, #fields, 2 do
  local name, value = fields[i], fields[i + 1]
  if name == 'id' and string.find(value, UUID) then deliveryId = string.lower(value) end
  if name == 'attempt' and string.find(value, '^[1-9]%d?%d?%d?$') then attempt = value end
  bytes = bytes + #name + #value
  if #kept < 2 * MOST_FIELDS and bytes <= MOST_BYTES and not OWN_NAMES[name] and not isSecret(name) then
    kept[#kept + 1] = name
    kept[#kept + 1] = name == 'webhook_url' and string.gsub(value, '//[^/?#]*@', '//***@') or value
  end
end

local record = '{"delivery_id":"' .. deliveryId .. '","attempt":' .. attempt .. ',"attempted_at":"' .. at .. '","duration_ms":0,'
if isDelivered == '1' then
  record = record .. '"status":"success"}'
else
  record = record .. '"status":"failed","error":"' .. reason .. '","error_type":"invalid"}'
  redis.call('XADD', dead, '*', 'kind', 'delivery', 'id', deliveryId, 'reason', reason, 'failed_at', at, unpack(kept))
end
local home = redis.call('HGET', homes, deliveryId)
local logged = redis.call('XADD', log, '*', 'delivery_id', deliveryId, 'record', record)
if not home or home == entryId then redis.call('HSET', homes, deliveryId, 'log:' .. logged) end
redis.call('XACK', stream, group, entryId)
redis.call('XDEL', stream, entryId)
return 1
