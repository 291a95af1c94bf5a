#!lua flags=allow-oom
-- switch: open, pause or end one shard, whatever its epoch.
-- KEYS     1 state
-- ARGV     1 switch
-- RETURNS  0 not_loaded · 1 done
-- KEEPS    a shard that was never loaded stays so
-- COST     O(1)
if redis.call('EXISTS', KEYS[1]) == 0 then
    return 0
end
redis.call('HSET', KEYS[1], 'switch', ARGV[1])
return 1
