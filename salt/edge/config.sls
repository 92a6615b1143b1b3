haproxy:
  pkg.installed

/etc/haproxy/tls:
  file.directory:
    - user: root
    - group: root
    - mode: '0700'
    - require:
      - pkg: haproxy

# HAProxy reads it as root before it drops its rights.
/etc/haproxy/tls/edge.pem:
  file.managed:
    - contents: {{ (pillar['secrets']['edge']['cert'] ~ pillar['secrets']['edge']['key']) | json }}
    - user: root
    - group: root
    - mode: '0600'
    - show_changes: False
    - require:
      - file: /etc/haproxy/tls

/etc/haproxy/haproxy.cfg:
  file.managed:
    - source: salt://edge/files/haproxy.cfg
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - check_cmd: /usr/sbin/haproxy -c -q -f
    - context:
        edge: {{ pillar['edge'] | json }}
        webs: {{ pillar['wiring']['edge']['webs'] | json }}
        apps: {{ pillar['apps'] | json }}
        out: {{ salt['edge.out']() | json }}
    - require:
      - pkg: haproxy
      - file: /etc/haproxy/tls/edge.pem
