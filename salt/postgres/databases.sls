{%- set version = salt['pg.version']() %}
{%- set wiring = pillar['wiring']['postgres'] %}
{%- set granted = salt['needs.postgres'](wiring, pillar['apps'] | list, pillar['postgres']['port']) %}
include:
  - postgres.service

{%- if wiring['primary'] %}

# Databases and roles come from the primary.
{{ pillar['host']['id'] }}:
  pgreplica.following:
    - version: {{ version }}
    - primary: {{ wiring['primary'] | json }}
    - port: {{ pillar['postgres']['port'] }}
    - require:
      - daemon: postgresql@{{ version }}-main.service
{%- else %}

# The passwords are read from the pillar by the states themselves, so that no argument carries them.
databases:
  pg.databases_present:
    - clients: {{ granted['clients'] | json }}
    - leaving: {{ granted['leaving'] | json }}
    - port: {{ pillar['postgres']['port'] }}
    - extra_roles: {{ pillar['postgres']['extra_roles'] | json }}
    - require:
      - daemon: postgresql@{{ version }}-main.service

replicas:
  pgreplica.let_in:
    - replicas: {{ granted['replicas'] | json }}
    - port: {{ pillar['postgres']['port'] }}
    - require:
      - daemon: postgresql@{{ version }}-main.service
{%- endif %}
