{%- set serves_builds = pillar['wiring'].get('builder', {}).get('listen') %}
{%- if serves_builds %}
include:
  - base.tls
{%- endif %}

nginx:
  pkg.installed:
    - pkgs: [nginx]
    - install_recommends: False

/etc/nginx/nginx.conf:
  file.managed:
    - source: salt://web/files/nginx.conf.jinja
    - template: jinja
    - user: root
    - group: root
    - mode: "0644"
    - check_cmd: /usr/sbin/nginx -t -q -c
    - require:
      - pkg: nginx
      {%- if serves_builds %}
      - file: /etc/saltern/tls/host.key
      - file: /etc/saltern/tls/host.crt
      {%- endif %}

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
      {%- if serves_builds %}
      - /etc/saltern/tls
      {%- endif %}
    - require:
      - pkg: nginx
      - file: /etc/nginx/nginx.conf
      - file: /etc/systemd/system/nginx.service.d/saltern.conf
    - watch:
      {%- if serves_builds %}
      - file: /etc/saltern/tls/host.key
      - file: /etc/saltern/tls/host.crt
      {%- endif %}
      - file: /etc/nginx/nginx.conf
      - file: /etc/systemd/system/nginx.service.d/saltern.conf
