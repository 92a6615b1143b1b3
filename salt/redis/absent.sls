# The fleet has taken this role from the host. The data in /var/lib/redis stay.
redis-unblock.service:
  daemon.dead: []

redis-server.service:
  daemon.dead: []

redis-server@cache.service:
  daemon.dead: []
