-- What processes tell each other about deployments: breakers, cooldowns, refused credentials.
--
-- One hash. `b:ID` is a breaker: "state until level epoch probes successes probed" (states: 0 closed, 1 open, 2 half-open;
-- `until` and `probed`, the time of the first probe, are milliseconds of this server's clock; a transition raises the
-- epoch). `c:ID` is when a deployment's cooldown ends, `k:ID` is "version at" of a credential that a provider refused.
-- Every run answers rows of six numbers: kind (0 time, 1 breaker, 2 cooldown, 3 credential, 4 probe), id, and four more;
-- the first is the time.
local key = KEYS[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local CLOSED, OPEN, HALF_OPEN = 0, 1, 2
local FORGET_MS = 60000 -- what is over is remembered this long, so that every process hears of it

local function load(id)
  local numbers = {}
  for number in string.gmatch(redis.call('HGET', key, 'b:' .. id) or '', '%d+') do
    numbers[#numbers + 1] = tonumber(number)
  end
  return {
    id = id, known = #numbers > 0, state = numbers[1] or CLOSED, till = numbers[2] or 0, level = numbers[3] or 0, epoch = numbers[4] or 0,
    probes = numbers[5] or 0, successes = numbers[6] or 0, probed = numbers[7] or 0,
  }
end

local function save(b)
  redis.call('HSET', key, 'b:' .. b.id, string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f',
    b.state, b.till, b.level, b.epoch, b.probes, b.successes, b.probed))
end

local function turn(b, state)
  b.state, b.epoch, b.probes, b.successes, b.probed = state, b.epoch + 1, 0, 0, 0
end

local function row(b)
  return {1, tonumber(b.id), b.state, b.till, b.level, b.epoch}
end

local function open_for(b, first_ms, longest_ms)
  b.till = now + math.min(first_ms * 2 ^ b.level, longest_ms)
end

local answer = {}
local function tell(numbers)
  for _, number in ipairs(numbers) do answer[#answer + 1] = number end
end

local what = ARGV[1]
tell({0, 0, now, 0, 0, 0})
if what == 'read' then
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local kind, id = string.match(all[i], '^(%a):(%d+)$')
    if kind == 'b' then
      local b = load(id)
      if b.state == CLOSED and b.till + FORGET_MS < now then redis.call('HDEL', key, all[i]) else tell(row(b)) end
    elseif kind == 'c' then
      local till = tonumber(all[i + 1])
      if till + FORGET_MS < now then redis.call('HDEL', key, all[i]) else tell({2, tonumber(id), till, 0, 0, 0}) end
    elseif kind == 'k' then
      local version, at = string.match(all[i + 1], '^(%d+) (%d+)$')
      tell({3, tonumber(id), tonumber(version), tonumber(at), 0, 0})
    end
  end

elseif what == 'trip' then -- id, first_ms, longest_ms, how many of the pool may be open, the pool's other ids
  local b = load(ARGV[2])
  if b.state == OPEN then -- it failed once more: what began before it opened says that it is still ill
    open_for(b, tonumber(ARGV[3]), tonumber(ARGV[4]))
  elseif b.state == CLOSED then
    local open = 0
    for i = 6, #ARGV do
      if load(ARGV[i]).state ~= CLOSED then open = open + 1 end
    end
    if open < tonumber(ARGV[5]) then
      turn(b, OPEN)
      b.level = 0
      open_for(b, tonumber(ARGV[3]), tonumber(ARGV[4]))
    end
  end
  save(b)
  tell(row(b))

elseif what == 'probe' then -- id, how many, for how long: may this call try?
  local b = load(ARGV[2])
  local granted = 0
  if not b.known then b.state = OPEN end -- lost with a flush; who asks knows that it had opened
  if b.state == CLOSED then
    granted = 1
  elseif b.state == HALF_OPEN or b.till <= now then
    if b.state == OPEN then turn(b, HALF_OPEN) end
    if b.probes > 0 and now - b.probed > tonumber(ARGV[4]) then b.probes, b.successes = 0, 0 end
    if b.probes < tonumber(ARGV[3]) then
      if b.probes == 0 then b.probed = now end
      b.probes = b.probes + 1
      granted = 1
    end
    save(b)
  end
  tell({4, tonumber(b.id), granted, 0, 0, 0})
  tell(row(b))

elseif what == 'probed' then -- id, epoch, outcome (1 good, 0 bad, 2 says nothing), how many close it, first_ms, longest_ms
  local b = load(ARGV[2])
  if b.state == HALF_OPEN and b.epoch == tonumber(ARGV[3]) then
    if ARGV[4] == '1' then
      b.successes = b.successes + 1
      if b.successes >= tonumber(ARGV[5]) then
        turn(b, CLOSED)
        b.till, b.level = now, 0
      end
    elseif ARGV[4] == '0' then
      turn(b, OPEN)
      b.level = b.level + 1
      open_for(b, tonumber(ARGV[6]), tonumber(ARGV[7]))
    else
      b.probes = math.max(b.probes - 1, b.successes)
    end
    save(b)
  end
  tell(row(b))

elseif what == 'cool' then -- id, for how many milliseconds
  local till = math.max(now + tonumber(ARGV[3]), tonumber(redis.call('HGET', key, 'c:' .. ARGV[2]) or 0))
  redis.call('HSET', key, 'c:' .. ARGV[2], string.format('%.0f', till))
  tell({2, tonumber(ARGV[2]), till, 0, 0, 0})

elseif what == 'refuse' then -- credential id, version
  redis.call('HSET', key, 'k:' .. ARGV[2], string.format('%.0f %.0f', tonumber(ARGV[3]), now))
  tell({3, tonumber(ARGV[2]), tonumber(ARGV[3]), now, 0, 0})

elseif what == 'allow' then -- credential id
  redis.call('HDEL', key, 'k:' .. ARGV[2])

elseif what == 'force' then -- id, for how many milliseconds: open by an operator's word, whatever it did
  local b = load(ARGV[2])
  turn(b, OPEN)
  b.level, b.till = 0, now + tonumber(ARGV[3])
  save(b)
  tell(row(b))

elseif what == 'trust' then -- ids of deployments whose breaker is closed and whose cooldown ends, whatever they did
  for i = 2, #ARGV do
    local b = load(ARGV[i])
    turn(b, CLOSED)
    b.till, b.level = now, 0
    save(b)
    redis.call('HSET', key, 'c:' .. ARGV[i], string.format('%.0f', now))
  end
end
return answer
