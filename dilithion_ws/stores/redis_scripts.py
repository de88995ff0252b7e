"""What Redis executes as one step, in Lua. The keys and arguments are those that `RedisStore` passes.

A topic has its epoch, its head and its stream of entries as keys 1 to 3. One whose epoch or head is missing has lost its
history. Times are those of Redis, since the clocks of servers differ.
"""

from __future__ import annotations

__all__ = ["BEGIN", "NOT_KEPT", "PUBLISH", "REPLACE_EPOCH"]

BEGIN = """
if redis.call('GET', KEYS[1]) and redis.call('GET', KEYS[2]) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], 0)
return 1
"""
"""Begin a topic that Redis does not know. ARGV: its epoch."""

PUBLISH = """
local epoch, head = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if not epoch or not head or (epoch == ARGV[7] and tonumber(head) < tonumber(ARGV[8])) then
    epoch, head = ARGV[1], 0
    redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
    redis.call('SET', KEYS[1], epoch)
elseif epoch ~= ARGV[7] and ARGV[14] == '0' then
    local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
    local fields = last and last[2] or {}
    for at = 1, #fields, 2 do
        if fields[at] == 'r' and fields[at + 1] ~= ARGV[13] then
            epoch, head = ARGV[1], 0
            redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
            redis.call('SET', KEYS[1], epoch)
        end
    end
end
local count, last = tonumber(ARGV[2]), redis.call('GET', KEYS[4])
if last and tonumber(last) >= count then return 0 end
if (last and tonumber(last) ~= count - 1) or (not last and ARGV[9] ~= '1') then
    return redis.error_reply('the event before this one was not kept')
end
if ARGV[11] ~= '' and redis.call('GET', KEYS[5]) ~= ARGV[11] then
    redis.call('SET', KEYS[4], count, 'EX', ARGV[3])
    return -1
end
head = tonumber(head) + 1
local now = redis.call('TIME')
redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[4], head .. '-0', 'e', epoch, 't', now[1] * 1000 + math.floor(now[2] / 1000),
    'd', ARGV[5], 'c', ARGV[12], 'r', ARGV[13])
redis.call('SET', KEYS[2], head)
redis.call('SET', KEYS[4], count, 'EX', ARGV[3])
if epoch == ARGV[7] then redis.call('XTRIM', KEYS[3], 'MINID', ARGV[6] .. '-0') end
if tonumber(ARGV[10]) > 0 then
    for at = 1, 3 do redis.call('EXPIRE', KEYS[at], ARGV[10]) end
end
return head
"""
"""Store an event.

ARGV: an epoch, if a new one is needed; the writer's own number of the event, and seconds for which it is kept; the most
entries; the event; the first entry to keep, and the epoch and head that the server knows; whether it is the first of
those that are sent together; seconds for which the topic is kept, or 0; a fencing token, or nothing; a checksum; the run
of Redis; whether Redis has all events after a restart. If not, a log that the server does not know is only continued in
the run in which its last entry was written.
"""

REPLACE_EPOCH = """
if ARGV[2] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
if ARGV[3] ~= '' and redis.call('GET', KEYS[4]) ~= ARGV[3] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], 0)
if tonumber(ARGV[4]) > 0 then
    for at = 1, 2 do redis.call('EXPIRE', KEYS[at], ARGV[4]) end
end
return 1
"""
"""Start a new epoch.

ARGV: its name; the epoch before, or nothing for any; a fencing token, or nothing; seconds for which the topic is kept,
or 0.
"""

NOT_KEPT = "the event before this one was not kept"
"""What PUBLISH says if Redis has lost an event of this writer, as an older copy has."""
