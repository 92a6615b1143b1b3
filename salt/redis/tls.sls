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
