{#- Each host, by its minion id and never by a grain: the defaults of its roles, and its own secrets.
    Which files those are is decided in _modules/site.py; fleet, apps and settings come by _pillar/saltern.py. #}
base:
  {{ opts['id'] | json }}: {{ salt['site.pillar_files'](opts['id']) | json }}
