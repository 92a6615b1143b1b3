{%- from 'edge/told.jinja' import apps with context %}
{%- set pages = salt['edge.app_pages'](apps)['files'] -%}
include:
  - edge.config

/etc/systemd/system/haproxy.service.d/saltern.conf:
  file.managed:
    - source: salt://edge/files/haproxy.service.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

# A reload keeps the listening sockets and lets the old process finish its requests.
haproxy.service:
  daemon.running:
    - reload: True
    - restart_by: edge.restart
    - inputs:
      - /etc/haproxy/haproxy.cfg
      - /etc/haproxy/hosts.map
      - /etc/haproxy/files.map
      - /etc/haproxy/unlimited.lst
      {%- for path in pages | sort %}
      - {{ path }}
      {%- endfor %}
      - /etc/haproxy/tls/edge.pem
      - /etc/saltern/tls
    - require:
      - pkg: haproxy
    - watch:
      - file: /etc/systemd/system/haproxy.service.d/saltern.conf
      - file: /etc/haproxy/tls/edge.pem
      - file: /etc/saltern/tls/ca.crt
      - file: /etc/saltern/tls/host.crt
      - file: /etc/saltern/tls/host.key
      - file: /etc/haproxy/hosts.map
      - file: /etc/haproxy/files.map
      - file: /etc/haproxy/unlimited.lst
      {%- for path in pages | sort %}
      - file: {{ path }}
      {%- endfor %}
      - edge: /etc/haproxy/haproxy.cfg
