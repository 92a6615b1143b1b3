include:
  - base.tls

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
