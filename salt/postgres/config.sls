{%- set version = salt['pg.version']() %}
{%- set directory = '/etc/postgresql/' ~ version ~ '/main' %}
{%- set wiring = pillar['wiring']['postgres'] %}
{%- set granted = salt['needs.postgres'](wiring, pillar['apps'] | list, pillar['postgres']['port']) %}
{%- set replica = salt['pgreplica.settings'](wiring['primary'], directory) if wiring['primary'] else {} %}

include:
  - postgres.packages
  - postgres.cluster
  - postgres.tls

{{ directory }}/start.conf:
  file.managed:
    - contents: auto
    - user: postgres
    - group: postgres
    - mode: '0640'
    - require:
      - sls: postgres.cluster

{{ directory }}/pg_ctl.conf:
  file.managed:
    - contents: "pg_ctl_options = ''"
    - user: postgres
    - group: postgres
    - mode: '0640'
    - require:
      - sls: postgres.cluster

{{ directory }}/primary.conf:
{%- if wiring['primary'] %}
  file.managed:
    - contents: {{ salt['pgreplica.primary_conf'](wiring['primary'], pillar['host']['id']) | json }}
    - user: root
    - group: postgres
    - mode: '0640'
    - require:
      - sls: postgres.cluster
    - require_in:
      - file: {{ directory }}/postgresql.conf
{%- else %}
  file.absent: []
{%- endif %}

# The server itself reads the new file before it replaces the old one.
{{ directory }}/postgresql.conf:
  file.managed:
    - contents: {{ salt['pg.postgresql_conf']('main', pillar['postgres'], wiring['listen'], replica, wiring['connections']) | json }}
    - user: root
    - group: postgres
    - mode: '0640'
    - check_cmd: sh -c '/usr/lib/postgresql/{{ version }}/bin/postgres -C max_connections -c config_file="$0"'
    - require:
      - sls: postgres.cluster

{{ directory }}/pg_hba.conf:
  file.managed:
    - contents: {{ salt['pg.hba'](granted['clients'] + granted['leaving'], granted['replicas']) | json }}
    - user: root
    - group: postgres
    - mode: '0640'
    - require:
      - sls: postgres.cluster

{{ directory }}/pg_ident.conf:
  file.managed:
    - contents: {{ salt['pg.ident']() | json }}
    - user: root
    - group: postgres
    - mode: '0640'
    - require:
      - sls: postgres.cluster
