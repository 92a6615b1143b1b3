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

/etc/systemd/system/nginx.service.d/saltern.conf:
  file.managed:
    - source: salt://web/files/nginx.service.conf
    - user: root
    - group: root
    - mode: "0644"
    - makedirs: True

nginx.service:
  daemon.running:
    - inputs: [/etc/nginx/nginx.conf]
    - reload: [/etc/nginx/nginx.conf]
    - require:
      - pkg: nginx
      - file: /etc/nginx/nginx.conf
      - file: /etc/systemd/system/nginx.service.d/saltern.conf
    - watch:
      - file: /etc/nginx/nginx.conf
      - file: /etc/systemd/system/nginx.service.d/saltern.conf
