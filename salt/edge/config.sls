include:
  - edge.tls

# Which app a host name is of. HAProxy reads it when it starts.
/etc/haproxy/hosts.map:
  file.managed:
    - contents: {{ salt['edge.hosts_map'](pillar['apps']) | json }}
    - user: root
    - group: root
    - mode: '0640'
    - require:
      - pkg: haproxy

# Networks without limits per address, one a line: a line of the configuration holds 64 words.
/etc/haproxy/unlimited.lst:
  file.managed:
    - contents: {{ (pillar['edge']['unlimited_from'] | join('\n') ~ '\n') | json }}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - pkg: haproxy

/etc/haproxy/haproxy.cfg:
  file.managed:
    - source: salt://edge/files/haproxy.cfg
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - check_cmd: /usr/sbin/haproxy -c -q -f
    - context:
        edge: {{ salt['edge.limits']() | json }}
        webs: {{ pillar['wiring']['edge']['webs'] | json }}
        apps: {{ pillar['apps'] | json }}
        out: {{ salt['edge.out']() | json }}
        listen: {{ salt['edge.listen']() | json }}
        client_headers: {{ salt['edge.client_headers']('haproxy') | json }}
        mark: {{ salt['edge.mark']() | json }}
        pages: {{ salt['edge.pages']() | json }}
    - require:
      - pkg: haproxy
      - file: /etc/haproxy/tls/edge.pem
      - file: /etc/haproxy/hosts.map
      - file: /etc/haproxy/unlimited.lst
      - file: /etc/saltern/tls/ca.crt
      - file: /etc/saltern/tls/host.crt
      - file: /etc/saltern/tls/host.key
