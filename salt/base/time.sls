{%- set timezone = pillar['base']['timezone'] %}
{%- from 'base/container.jinja' import in_container with context %}
{#- Two programs must not set one clock, and apt would take one away without a word in the plan. What is there stays. #}
{%- set others = salt['pkg.list_pkgs']() | select('in', ['chrony', 'ntpsec', 'openntpd']) | list %}
{%- set ntp = pillar['base']['ntp'] %}

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
{%- if in_container or others %}

the clock:
  test.show_notification:
    - text: {{ ('a container has the clock of its machine, which must set it' if in_container else others[0] ~ ' keeps it, which was here before') | json }}
{%- else %}

systemd-timesyncd:
  pkg.installed:
    - install_recommends: False

/etc/systemd/timesyncd.conf.d/saltern.conf:
  file.managed:
    - contents: {{ ('# Written by Salt, from base.ntp.\n[Time]\n' ~ ('NTP=' ~ ntp | join(' ') ~ '\n' if ntp else '')) | json }}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

systemd-timesyncd.service:
  daemon.running:
    - inputs:
      - /etc/systemd/timesyncd.conf.d/saltern.conf
    - require:
      - pkg: systemd-timesyncd
    - watch:
      - file: /etc/systemd/timesyncd.conf.d/saltern.conf
{%- endif %}
