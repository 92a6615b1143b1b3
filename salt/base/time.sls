{%- set timezone = pillar['base']['timezone'] %}

include:
  - base.packages

/etc/localtime:
  file.symlink:
    - target: {{ ('/usr/share/zoneinfo/' ~ timezone) | json }}
    - force: True
    - require:
      - pkg: base packages

# Debian 13 no longer reads it, some programs do.
/etc/timezone:
  file.managed:
    - contents: {{ timezone | json }}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - pkg: base packages
