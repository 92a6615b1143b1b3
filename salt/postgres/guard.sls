{%- set version = salt['pg.version']() %}
{%- set limits = salt['pg.memory_limits'](pillar['postgres']) %}

include:
  - postgres.service
  - postgres.databases

/usr/local/lib/saltern/postgres-guard.py:
  file.managed:
    - source: salt://postgres/files/postgres-guard.py
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

/etc/systemd/system/postgres-guard.service:
  file.managed:
    - source: salt://postgres/files/postgres-guard.service
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - context:
        version: {{ version }}
        port: {{ pillar['postgres']['port'] }}
        memory_mb: {{ limits['sessions_mb'] }}
        options: {{ salt['pg.guard_options']() | replace('\\', '\\\\') | json }}

# As a role that the primary makes: on a replica it waits for it.
postgres-guard.service:
  daemon.running:
    - inputs:
      - /usr/local/lib/saltern/postgres-guard.py
    - require:
      - sls: postgres.databases
    - watch:
      - file: /usr/local/lib/saltern/postgres-guard.py
      - file: /etc/systemd/system/postgres-guard.service
