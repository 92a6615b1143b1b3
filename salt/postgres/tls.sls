{%- set version = salt['pg.version']() %}
{%- set tls = pillar['secrets']['tls'] %}

include:
  - postgres.packages

/etc/postgresql/tls:
  file.directory:
    - user: root
    - group: postgres
    - mode: '0750'
    - require:
      - pkg: postgresql-{{ version }}

# Its own copy: the server reads it as postgres, and the host's key is for root only.
/etc/postgresql/tls/host.crt:
  file.managed:
    - contents: {{ tls['cert'] | json }}
    - user: root
    - group: postgres
    - mode: '0640'
    - require:
      - file: /etc/postgresql/tls

/etc/postgresql/tls/host.key:
  file.managed:
    - contents: {{ tls['key'] | json }}
    - user: root
    - group: postgres
    - mode: '0640'
    - show_changes: False
    - require:
      - file: /etc/postgresql/tls
