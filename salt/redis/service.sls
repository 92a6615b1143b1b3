include:
  - redis.config

/etc/systemd/system/redis-server.service.d/saltern.conf:
  file.managed:
    - source: salt://redis/files/redis-server.service.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - require:
      - pkg: redis-server

redis-server.service:
  daemon.running:
    - inputs:
      - /etc/redis/redis.conf
      - /etc/redis/password.conf
    - watch:
      - file: /etc/redis/redis.conf
      - file: /etc/redis/password.conf
      - file: /etc/systemd/system/redis-server.service.d/saltern.conf
