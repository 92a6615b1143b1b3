/etc/systemd/system/saltern-mounts.service:
  file.managed:
    - source: salt://base/files/saltern-mounts.service
    - user: root
    - group: root
    - mode: '0644'

saltern-mounts.service:
  daemon.running:
    - watch:
      - file: /etc/systemd/system/saltern-mounts.service
