include:
  - redis.config
{%- for server in ['broker', 'cache'] %}
{%- set files = salt['redis_server.files'](server) %}
{%- set drop_in = '/etc/systemd/system/' ~ files['unit'] ~ '.d/saltern.conf' %}

{{ drop_in }}:
  file.managed:
    - source: salt://redis/files/redis-server.service.conf
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - context:
        socket: {{ files['socket'] | json }}
        unit_mb: {{ salt['redis_server.unit_mb'](server, pillar['redis']) }}
    - require:
      - pkg: redis-server

{{ files['unit'] }}:
  daemon.running:
    - inputs: {{ (salt['redis_server.inputs'](server) + ['/etc/redis/openssl.cnf']) | json }}
    - reload:
      - /etc/redis/tls
    # It does not let root in, or not do what root asks: the next state puts that right, and starts it anew.
    - begins_anew_if: redis_server.not_in_step
    - require:
      - redis_server: users of Redis
    - watch:
      - file: {{ files['config'] }}
      - file: /etc/redis/openssl.cnf
      - file: /etc/redis/tls/host.crt
      - file: /etc/redis/tls/host.key
      - file: {{ drop_in }}

{{ server }}:
  redis_server.in_step:
    - require:
      - daemon: {{ files['unit'] }}
{%- endfor %}

# Redis has no limit for a script, and one thread.
/usr/local/lib/saltern/redis-unblock.py:
  file.managed:
    - source: salt://redis/files/redis-unblock.py
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

/etc/systemd/system/redis-unblock.service:
  file.managed:
    - source: salt://redis/files/redis-unblock.service
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - context:
        sockets: {{ [salt['redis_server.files']('broker')['socket'], salt['redis_server.files']('cache')['socket']] | json }}

redis-unblock.service:
  daemon.running:
    - inputs:
      - /usr/local/lib/saltern/redis-unblock.py
      - /etc/redis/health.pass
    - require:
      - redis_server: cache
    - watch:
      - file: /usr/local/lib/saltern/redis-unblock.py
      - file: /etc/systemd/system/redis-unblock.service

# Hosts that an older Saltern made. By then the apps here have releases with users of their own.
the shared password of Redis:
  redis_server.retired:
    - order: last
