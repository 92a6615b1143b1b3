# HAProxy limits the time between two bytes only; this limits the whole.
include:
  - edge.service

edge sweep packages:
  pkg.installed:
    - pkgs: [python3]
    - install_recommends: False

/usr/local/lib/saltern/edge-sweep.py:
  file.managed:
    - source: salt://edge/files/sweep.py
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

/etc/systemd/system/saltern-edge-sweep.service:
  file.managed:
    - source: salt://edge/files/sweep.service
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - context:
        edge: {{ pillar['edge'] | json }}

saltern-edge-sweep.service:
  daemon.running:
    - inputs:
      - /usr/local/lib/saltern/edge-sweep.py
    - require:
      - pkg: edge sweep packages
      - daemon: haproxy.service
    - watch:
      - file: /usr/local/lib/saltern/edge-sweep.py
      - file: /etc/systemd/system/saltern-edge-sweep.service
