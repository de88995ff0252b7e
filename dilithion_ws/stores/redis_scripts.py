"""What Redis executes as one step, in Lua. The keys and arguments are those that `RedisStore` passes."""

from __future__ import annotations

__all__ = ["PUBLISH", "REPLACE_EPOCH"]

PUBLISH = """
local epoch = redis.call('GET', KEYS[1])
local head = tonumber(redis.call('GET', KEYS[2]) or '0')
if not epoch or (epoch == ARGV[8] and head < tonumber(ARGV[9])) then
    epoch, head = ARGV[1], 0
    redis.call('DEL', KEYS[2], KEYS[3])
    redis.call('SET', KEYS[1], epoch)
end
local count, last = tonumber(ARGV[2]), redis.call('GET', KEYS[4])
if last and tonumber(last) >= count then return 0 end
if (last and tonumber(last) ~= count - 1) or (not last and ARGV[10] ~= '1') then
    return redis.error_reply('the event before this one was not kept')
end
if ARGV[12] ~= '' and redis.call('GET', KEYS[5]) ~= ARGV[12] then
    redis.call('SET', KEYS[4], count, 'EX', ARGV[3])
    return -1
end
head = head + 1
redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[4], head .. '-0', 'e', epoch, 't', ARGV[5], 'd', ARGV[6], 'c', ARGV[13])
redis.call('SET', KEYS[2], head)
redis.call('SET', KEYS[4], count, 'EX', ARGV[3])
if epoch == ARGV[8] then redis.call('XTRIM', KEYS[3], 'MINID', ARGV[7] .. '-0') end
if tonumber(ARGV[11]) > 0 then
    for at = 1, 3 do redis.call('EXPIRE', KEYS[at], ARGV[11]) end
end
return head
"""

REPLACE_EPOCH = """
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
if ARGV[3] ~= '' and redis.call('GET', KEYS[4]) ~= ARGV[3] then return 0 end
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""
