#!/bin/sh
# Starts a gate node with two users: rushgate for the engines, limited to the gate's keys and to the commands that the gate uses,
# and default without a password, which may only ping.
set -eu
umask 077
cat >/tmp/users.acl <<END
user default on nopass resetkeys resetchannels -@all +ping
user rushgate on >$REDIS_PASSWORD resetkeys ~{rg:* resetchannels -@all +ping +hello +auth +client|setname +client|setinfo +info +script|load +evalsha +exists +unlink +hget +hset +hdel +hmget +hincrby +hlen +hscan
END
exec redis-server /etc/redis/redis.conf --aclfile /tmp/users.acl --maxmemory "$REDIS_MAXMEMORY"
