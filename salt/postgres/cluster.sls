{%- set version = salt['pg.version']() %}
{%- set postgres = pillar['postgres'] %}
{%- set primary = pillar['wiring']['postgres']['primary'] %}

include:
  - postgres.packages
{%- if primary %}
  - base.tls

/etc/postgresql/{{ version }}/main:
  file.directory:
    - user: postgres
    - group: postgres
    - mode: '0755'
    - makedirs: True
    - require:
      - pkg: postgresql-{{ version }}

{%- set password = pillar['secrets']['replication_password'] | replace('\\', '\\\\') | replace(':', '\\:') %}

# The server reads it, and libpq refuses one that others can read.
/etc/postgresql/replication.pass:
  file.managed:
    - contents: {{ (salt['pgreplica.passfile_entry'](primary) ~ password) | json }}
    - user: postgres
    - group: postgres
    - mode: '0600'
    - show_changes: False
    - require:
      - pkg: postgresql-{{ version }}

main:
  pgreplica.present:
    - version: {{ version }}
    - primary: {{ primary | json }}
    - replica: {{ pillar['host']['id'] | json }}
    - limits: {{ salt['pg.host_tuning'](postgres, pillar['wiring']['postgres']['connections']) | json }}
    - require:
      - file: /etc/postgresql/{{ version }}/main
      - file: /etc/postgresql/replication.pass
      - file: /etc/saltern/tls/ca.crt
{%- else %}

main:
  pg.cluster_present:
    - version: {{ version }}
    - port: {{ postgres['port'] }}
    - require:
      - pkg: postgresql-{{ version }}

# What is left of a time as a replica.
/etc/postgresql/replication.pass:
  file.absent: []
{%- endif %}
