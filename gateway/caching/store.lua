-- What one process asks of the response cache. All keys of a run are one tenant's, in one slot.
-- KEYS: the lead, then the entries, best first. Answers a number, then what is kept under each entry's key.

local function entries()
  local found = {}
  for place = 2, #KEYS do
    found[place - 1] = redis.call('get', KEYS[place])
  end
  return found
end

local function answer(number)
  return {number, unpack(entries())}
end

local verb, token, milliseconds = ARGV[1], ARGV[2], ARGV[3]

if verb == 'read' then
  return answer(redis.call('exists', KEYS[1]))
elseif verb == 'lead' then
  return answer(redis.call('set', KEYS[1], token, 'NX', 'PX', milliseconds) and 1 or 0)
elseif verb == 'keep' then
  redis.call('set', KEYS[2], ARGV[4], 'PX', milliseconds)
end

if redis.call('get', KEYS[1]) ~= token then
  return {0}
elseif verb == 'prolong' then
  return {redis.call('pexpire', KEYS[1], milliseconds)}
end
return {redis.call('del', KEYS[1])} -- keep, and give_up
