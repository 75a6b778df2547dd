-- Rate limits in Redis: one run decides about one call over all its limits, or does one of the chores around it.
--
-- A window is a hash: counts by the number of their interval ("1763723000" -> 7), their `total`, and the `first` and
-- `last` interval that may have a count. It forgets an interval when all of it has left the window, so no window of
-- this length, wherever it begins, ever has more than the limit. Concurrency is a sorted set of lease ids by the time
-- they end. Time is this server's, so that all processes mean the same.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

-- Read a window and forget what has left it. A clock set back by more than an interval begins the window anew.
local function open_window(key, width, span)
  local state = redis.call('HMGET', key, 'total', 'first', 'last')
  local current = math.floor(now / width)
  local window = {key = key, width = width, span = span, current = current}
  window.total, window.first, window.last = tonumber(state[1]), tonumber(state[2]), tonumber(state[3])
  if not window.total or window.last < current - span or window.last > current + 1 then
    if window.total then redis.call('DEL', key) end
    window.total, window.first, window.last = 0, current, nil
    return window
  end
  if window.last > current then window.current = window.last end
  local oldest = current - span
  if window.first < oldest then
    for interval = window.first, oldest - 1 do
      local count = redis.call('HGET', key, interval)
      if count then
        window.total = window.total - tonumber(count)
        redis.call('HDEL', key, interval)
      end
    end
    window.first = oldest
    redis.call('HSET', key, 'total', window.total, 'first', oldest)
  end
  return window
end

local function add(window, amount)
  window.total = window.total + amount
  redis.call('HINCRBY', window.key, window.current, amount)
  redis.call('HSET', window.key, 'total', window.total, 'first', window.first, 'last', window.current)
  if window.last ~= window.current then
    redis.call('EXPIRE', window.key, window.width * (window.span + 2))
    window.last = window.current
  end
end

local function leaves_at(window, interval)
  return (interval + window.span + 1) * window.width
end

-- Seconds until enough has left the window for `amount` more.
local function seconds_until_room(window, limit, amount)
  local excess = window.total + amount - limit
  for interval = window.first, window.last or window.current do
    excess = excess - tonumber(redis.call('HGET', window.key, interval) or 0)
    if excess <= 0 then return leaves_at(window, interval) - now end
  end
  return leaves_at(window, window.current) - now
end

-- ARGV: lease, its seconds, then for each key: limit, amount, interval's seconds (0: concurrency), intervals.
-- Answers the number of the key that refuses most (0: admitted), ms until it has room, now in us, and for each key what
-- is used and in how many ms none of it is. With `looks`, for people who ask: the same answer, and nothing is counted.
local function admit(looks)
  local lease, seconds = ARGV[2], tonumber(ARGV[3])
  local answer, windows = {0, 0, math.floor(now * 1000000)}, {}
  for i, key in ipairs(KEYS) do
    local limit, amount = tonumber(ARGV[4 * i]), tonumber(ARGV[4 * i + 1])
    local width, span = tonumber(ARGV[4 * i + 2]), tonumber(ARGV[4 * i + 3])
    local used, wait
    if width == 0 then
      redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
      used = redis.call('ZCARD', key)
      if used + amount > limit then wait = 1 end
    else
      local window = open_window(key, width, span)
      windows[i], used = window, window.total
      if used + amount > limit then wait = seconds_until_room(window, limit, amount) end
    end
    answer[2 + 2 * i] = used
    if wait and wait * 1000 > answer[2] then answer[1], answer[2] = i, math.ceil(wait * 1000) end
  end
  for i, key in ipairs(KEYS) do
    local amount, window = tonumber(ARGV[4 * i + 1]), windows[i]
    if answer[1] == 0 and not looks then
      answer[2 + 2 * i] = answer[2 + 2 * i] + amount
      if window then
        add(window, amount)
      else
        redis.call('ZADD', key, now + seconds, lease)
        redis.call('EXPIRE', key, seconds)
      end
    end
    local last = window and window.last
    answer[3 + 2 * i] = last and math.ceil((leaves_at(window, last) - now) * 1000) or 0
  end
  return answer
end

-- ARGV: lease, when it was admitted in us, how many tokens more it took than was thought, then for each key: interval's
-- seconds (0: concurrency), intervals. More counts from now on; less is given back where it was counted, if it still is.
local function finish()
  local admitted_at, difference = tonumber(ARGV[3]) / 1000000, tonumber(ARGV[4])
  for i, key in ipairs(KEYS) do
    local width, span = tonumber(ARGV[3 + 2 * i]), tonumber(ARGV[4 + 2 * i])
    if width == 0 then
      redis.call('ZREM', key, ARGV[2])
    elseif difference > 0 then
      add(open_window(key, width, span), difference)
    elseif difference < 0 then
      local window, interval = open_window(key, width, span), math.floor(admitted_at / width)
      local count = tonumber(redis.call('HGET', key, interval) or 0)
      local back = math.min(count, -difference)
      if back > 0 then
        redis.call('HINCRBY', key, interval, -back)
        redis.call('HINCRBY', key, 'total', -back)
      end
    end
  end
  return {}
end

-- ARGV: lease, its seconds from now. Only what still holds is prolonged.
local function keep()
  for _, key in ipairs(KEYS) do
    redis.call('ZADD', key, 'XX', now + tonumber(ARGV[3]), ARGV[2])
    redis.call('EXPIRE', key, ARGV[3])
  end
  return {}
end

-- ARGV: process, for how many seconds it is taken for alive (0: it ends). Answers how many processes live.
local function beat()
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  if ARGV[3] == '0' then
    redis.call('ZREM', KEYS[1], ARGV[2])
  else
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[2])
  end
  return {redis.call('ZCARD', KEYS[1])}
end

local function look() return admit(true) end

local tasks = {admit = admit, look = look, finish = finish, keep = keep, beat = beat}
return tasks[ARGV[1]]()
