{%- set version = salt['pg.version']() %}
{%- set directory = '/etc/postgresql/' ~ version ~ '/main' %}

# The fleet has taken this role from the host. The cluster in /var/lib/postgresql stays.
{%- if salt['file.directory_exists'](directory) %}
# Debian's generator starts at boot whatever this file says, enabled or not.
{{ directory }}/start.conf:
  file.managed:
    - contents: manual
    - user: postgres
    - group: postgres
    - mode: '0644'
    - require_in:
      - daemon: postgresql@{{ version }}-main.service
{%- endif %}

postgres-guard.service:
  daemon.dead:
    - serves: postgres

postgresql@{{ version }}-main.service:
  daemon.dead:
    - serves: postgres
