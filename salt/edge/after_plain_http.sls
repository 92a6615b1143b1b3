{#- The first apply of this version on a host that is web host and edge: nginx takes plain HTTP and TLS, then HAProxy changes
    from one to the other, and then, here, nginx takes TLS alone. With edges on other hosts too, a later apply does it. #}
{%- set edges = [] %}
{%- for name, host in pillar['fleet']['hosts'].items() if 'edge' in host['roles'] %}{% do edges.append(name) %}{% endfor %}
include:
  - web.nginx
  - edge.service
{%- if edges == [pillar['host']['id']] %}

# HAProxy's old process serves its last connections for a moment, without TLS.
nginx takes TLS alone:
  file.managed:
    - name: /etc/nginx/nginx.conf
    - source: salt://web/files/nginx.conf.jinja
    - template: jinja
    - user: root
    - group: root
    - mode: "0644"
    - context:
        plain: false
    - check_cmd: >-
        sh -c 'sleep 2; for n in $(seq 350); do
        test "$(pgrep -c -P "$(systemctl show -P MainPID haproxy)")" -gt 1 || break; sleep 0.2; done;
        exec /usr/sbin/nginx -t -q -c "$0"'
    - require:
      - daemon: nginx.service
      - daemon: haproxy.service
  daemon.running:
    - name: nginx
    - reload: True
    - inputs:
      - /etc/nginx/nginx.conf
      - /etc/saltern/tls
    - require:
      - file: nginx takes TLS alone
    - watch:
      - file: nginx takes TLS alone
{%- endif %}
