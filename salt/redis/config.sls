include:
  - redis.packages

/etc/redis/redis.conf:
  file.managed:
    - source: salt://redis/files/redis.conf
    - template: jinja
    - user: root
    - group: redis
    - mode: '0640'
    - context:
        port: {{ pillar['redis']['port'] }}
        maxmemory_mb: {{ pillar['redis']['maxmemory_mb'] }}
        listen: {{ pillar['wiring']['redis']['listen'] | json }}
    - require:
      - pkg: redis-server

# Apart from the rest, so that a plan may show the rest.
/etc/redis/password.conf:
  file.managed:
    - contents: {{ ('requirepass "' ~ pillar['secrets']['redis_password'] | replace('\\', '\\\\') | replace('"', '\\"') ~ '"') | json }}
    - user: root
    - group: redis
    - mode: '0640'
    - show_changes: False
    - require:
      - pkg: redis-server
