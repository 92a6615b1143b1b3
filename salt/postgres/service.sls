{%- set version = salt['pg.version']() %}
{%- set directory = '/etc/postgresql/' ~ version ~ '/main' %}
{%- set drop_in = '/etc/systemd/system/postgresql@' ~ version ~ '-main.service.d/saltern.conf' %}
{%- set limits = salt['pg.memory_limits'](pillar['postgres']) %}
{%- set primary = pillar['wiring']['postgres']['primary'] %}

include:
  - postgres.config

{{ drop_in }}:
  file.managed:
    - source: salt://postgres/files/postgresql.service.conf
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - context:
        version: {{ version }}
        cluster: main
        limits: {{ limits | json }}

# Crash recovery may take minutes, hence the long timeout.
postgresql@{{ version }}-main.service:
  daemon.running:
    - timeout: 600
    - proof: pg.not_taken
    - inputs: {{ salt['pg.inputs'](primary is not none) | json }}
    - reload:
      - {{ directory }}/pg_hba.conf
{%- if primary %}
      - {{ directory }}/primary.conf
{%- endif %}
      - {{ directory }}/pg_ident.conf
      - /etc/postgresql/tls
    - watch:
      - file: {{ directory }}/postgresql.conf
      - file: {{ directory }}/pg_hba.conf
      - file: {{ directory }}/pg_ident.conf
      - file: /etc/postgresql/tls/host.crt
      - file: /etc/postgresql/tls/host.key
      - file: {{ drop_in }}
{%- if primary %}
      - file: {{ directory }}/primary.conf
{%- endif %}
