{%- from 'edge/told.jinja' import apps with context %}
{%- set app_pages = salt['edge.app_pages'](apps) -%}
include:
  - edge.tls

# Which app a host name is of. HAProxy reads it when it starts.
/etc/haproxy/hosts.map:
  file.managed:
    - contents: {{ salt['edge.hosts_map'](apps) | json }}
    - user: root
    - group: root
    - mode: '0640'
    - require:
      - pkg: haproxy

# Which paths are files. HAProxy reads it when it starts.
/etc/haproxy/files.map:
  file.managed:
    - contents: {{ salt['edge.files_map'](apps) | json }}
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

# Which apps are in maintenance, and who reaches them all the same. HAProxy reads it when it starts; after that
# edge.maintenance tells it, so that a change is no reload.
apps in maintenance:
  edge.maps_kept:
    - require:
      - pkg: haproxy
{%- for path, of in app_pages['files'] | dictsort %}
{#- Here, and not on the host: a text does not come through salt-ssh as it is. #}
{%- set page = namespace(text=pillar['wiring']['edge']['pages'][of['app']][of['page']]) %}
{%- for plain, written in of['replaced'] %}
{%- set page.text = page.text | replace(plain, written) %}
{%- endfor %}

{{ path }}:
  file.managed:
    - contents: {{ page.text | json }}
    - contents_newline: False
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: /etc/haproxy/pages
    - require_in:
      - edge: /etc/haproxy/haproxy.cfg
{%- endfor %}

# Units that were started before this folder was there do not have it hidden.
/etc/haproxy:
  file.directory:
    - user: root
    - group: haproxy
    - mode: '0750'
    - require:
      - pkg: haproxy

/etc/haproxy/pages:
  file.directory:
    - user: root
    - group: root
    - mode: '0755'
    - require:
      - pkg: haproxy

# Not before the configuration has no need of it: HAProxy might start in between.
{%- for path in app_pages['strays'] %}
{{ path | json }}:
  file.absent:
    - require:
      - edge: /etc/haproxy/haproxy.cfg
{%- endfor %}

# It asks itself, when it is written, which web hosts somebody has taken out.
/etc/haproxy/haproxy.cfg:
  edge.configured:
    - source: salt://edge/files/haproxy.cfg
    - user: root
    - group: root
    - mode: '0644'
    - check: /usr/sbin/haproxy -c -q -f
    - context:
        edge: {{ salt['edge.limits'](pillar['edge']) | json }}
        webs: {{ pillar['wiring']['edge']['webs'] | json }}
        apps: {{ pillar['apps'] | json }}
        listen: {{ salt['edge.listen']() | json }}
        client_headers: {{ salt['edge.client_headers']('haproxy') | json }}
        mark: {{ salt['edge.mark']() | json }}
        pages: {{ salt['edge.pages']() | json }}
        app_pages: {{ app_pages['apps'] | json }}
    - require:
      - edge: apps in maintenance
      - pkg: haproxy
      - file: /etc/haproxy/tls/edge.pem
      - file: /etc/haproxy/hosts.map
      - file: /etc/haproxy/files.map
      - file: /etc/haproxy/unlimited.lst
      - file: /etc/saltern/tls/ca.crt
      - file: /etc/saltern/tls/host.crt
      - file: /etc/saltern/tls/host.key
