{%- set host = pillar['host'] %}

/etc/hostname:
  file.managed:
    - contents: {{ host['id'] | json }}
    - user: root
    - group: root
    - mode: '0644'

{#- The grain is the kernel's name of this very moment, so a plan is true and an apply that died is made good. #}
{%- if grains['nodename'] != host['id'] %}
hostname of the running system:
  cmd.run:
    - name: {{ ('hostname ' ~ host['id']) | json }}
    - unless: {{ ('test "$(hostname)" = ' ~ host['id']) | json }}
    - require:
      - file: /etc/hostname
{%- endif %}

# Which Saltern has last applied this host: what an inventory or a bug report asks for first. Apps need not know it.
/etc/saltern/version:
  file.managed:
    - contents: {{ pillar['version'] | json }}
    - user: root
    - group: root
    - mode: '0600'
    - makedirs: True
    - dir_mode: '0755'

# Every host knows every host, so names work without DNS.
/etc/hosts:
  file.managed:
    - source: salt://base/files/hosts
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - context:
        fleet: {{ pillar['fleet'] | json }}
