{%- set tls = pillar['secrets']['tls'] %}
include:
  - redis.packages

# Debian gives it to redis, and then a file of root's in it is redis' to replace.
/etc/redis:
  file.directory:
    - user: root
    - group: redis
    - mode: '0750'
    - require:
      - pkg: redis-server

/etc/redis/openssl.cnf:
  file.managed:
    - source: salt://redis/files/openssl.cnf
    - user: root
    - group: redis
    - mode: '0640'
    - require:
      - file: /etc/redis

/etc/redis/tls:
  file.directory:
    - user: root
    - group: redis
    - mode: '0750'
    - require:
      - file: /etc/redis

# Its own copy: the servers read it as redis, and the host's key is for root only.
/etc/redis/tls/host.crt:
  file.managed:
    - contents: {{ tls['cert'] | json }}
    - user: root
    - group: redis
    - mode: '0640'
    - require:
      - file: /etc/redis/tls

/etc/redis/tls/host.key:
  file.managed:
    - contents: {{ tls['key'] | json }}
    - user: root
    - group: redis
    - mode: '0640'
    - show_changes: False
    - require:
      - file: /etc/redis/tls

# The passwords are read from the pillar by the state itself, so that no argument carries them.
users of Redis:
  redis_server.users_written:
    - require:
      - file: /etc/redis
{%- for server in ['broker', 'cache'] %}

{{ salt['redis_server.files'](server)['config'] }}:
  file.managed:
    - contents: {{ salt['redis_server.config'](server) | json }}
    - user: root
    - group: redis
    - mode: '0640'
    - require:
      - file: /etc/redis
{%- endfor %}
{%- if not salt['redis_server.legacy']() %}

# What all apps once shared.
/etc/redis/password.conf:
  file.absent: []
{%- endif %}
