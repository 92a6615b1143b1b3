include:
  - redis.packages
  - redis.tls

/etc/redis/openssl.cnf:
  file.managed:
    - source: salt://redis/files/openssl.cnf
    - user: root
    - group: redis
    - mode: '0640'
    - require:
      - file: /etc/redis

# The passwords are read from the pillar by the state itself, so that no argument carries them.
users of Redis:
  redis_server.users_written:
    - require:
      - file: /etc/redis
{%- for server in ['broker', 'cache'] %}

{{ salt['redis_server.files'](server)['config'] }}:
  file.managed:
    - contents: {{ salt['redis_server.config'](server, pillar['redis'], pillar['wiring']['redis'][server]['listen']) | json }}
    - user: root
    - group: redis
    - mode: '0640'
    - require:
      - file: /etc/redis
{%- endfor %}
{%- if not salt['redis_server.legacy_port']([pillar['redis']['broker_port'], pillar['redis']['cache_port']]) %}

# What all apps once shared.
/etc/redis/password.conf:
  file.absent: []
{%- endif %}
