{%- set version = salt['pg.version']() %}
include:
  - postgres.service

# The passwords are read from the pillar by the state itself, so that no argument carries them.
databases:
  pg.databases_present:
    - clients: {{ pillar['wiring']['postgres']['clients'] | json }}
    - port: {{ pillar['postgres']['port'] }}
    - require:
      - daemon: postgresql@{{ version }}-main.service
