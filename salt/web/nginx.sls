{%- set plain = 'web' in pillar['host']['roles'] and salt['edge.takes_plain_http'](pillar['web']['port'], pillar['host']['id'], pillar['fleet']['hosts']) %}
include:
  - base.tls

nginx:
  pkg.installed:
    - pkgs: [nginx]
    - install_recommends: False

nginx.conf:
  file.managed:
    - name: /etc/nginx/nginx.conf
    - source: salt://web/files/nginx.conf.jinja
    - template: jinja
    - user: root
    - group: root
    - mode: "0644"
    - context:
        plain: {{ plain | json }}
    - check_cmd: /usr/sbin/nginx -t -q -c
    - require:
      - pkg: nginx
      - file: /etc/saltern/tls/host.key
      - file: /etc/saltern/tls/host.crt

/etc/systemd/system/nginx.service.d/saltern.conf:
  file.managed:
    - source: salt://web/files/nginx.service.conf
    - user: root
    - group: root
    - mode: "0644"
    - makedirs: True

nginx.service:
  daemon.running:
    - reload: True
    - inputs:
      - /etc/nginx/nginx.conf
      - /etc/saltern/tls
    - require:
      - pkg: nginx
      - file: nginx.conf
      - file: /etc/systemd/system/nginx.service.d/saltern.conf
    - watch:
      - file: /etc/saltern/tls/host.key
      - file: /etc/saltern/tls/host.crt
      - file: nginx.conf
      - file: /etc/systemd/system/nginx.service.d/saltern.conf
