# The fleet has taken this role from the host. The data in /var/lib/redis stay.
{%- for unit in ['redis-unblock.service', 'redis-server.service', 'redis-server@cache.service'] %}

{{ unit }}:
  daemon.dead:
    - serves: redis
{%- endfor %}
