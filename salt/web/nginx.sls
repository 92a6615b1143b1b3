include:
  - base.tls

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
      - file: /etc/nginx/nginx.conf
      - file: /etc/systemd/system/nginx.service.d/saltern.conf
    - watch:
      - file: /etc/saltern/tls/host.key
      - file: /etc/saltern/tls/host.crt
      - file: /etc/nginx/nginx.conf
      - file: /etc/systemd/system/nginx.service.d/saltern.conf
