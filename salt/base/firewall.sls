{%- from 'base/granted.jinja' import granted with context %}
{%- set runs = pillar['wiring']['base']['egress']['callers'] | map(attribute='users') | sum(start=[]) %}
{%- set builds = pillar['wiring']['base']['egress']['builds']['apps'] %}
{#- Who runs and builds apps is known by number, so the accounts come first; nothing runs as one before the rules do. #}
{%- if runs or builds %}
include:
  {%- if runs %}
  - web.users
  {%- endif %}
  {%- if builds %}
  - builder.users
  {%- endif %}
{%- endif %}

nftables:
  pkg.installed:
    - install_recommends: False

/etc/nftables.conf:
  file.managed:
    - source: salt://base/files/nftables.conf.jinja
    - template: jinja
    - context:
        granted: {{ granted | json }}
    - user: root
    - group: root
    - mode: '0644'
    - check_cmd: /usr/sbin/nft -c -f
    - require:
      - pkg: nftables
      {%- for user in runs %}
      - account: {{ user | json }}
      {%- endfor %}
      {%- for app in builds %}
      - account: build user of {{ app }}
      {%- endfor %}

# Debian's unit would take everybody's rules away when it stops.
/etc/systemd/system/nftables.service.d/saltern.conf:
  file.managed:
    - source: salt://base/files/nftables.service.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

the firewall:
  firewall.enforced:
    - wiring: {{ granted | json }}
    - require:
      - file: /etc/nftables.conf

{#- Told, for only the fleet's file closes an address to apps of other hosts. -#}
{%- set fleet = pillar['fleet'] %}
{%- set own = fleet['hosts'][pillar['host']['id']] %}
{%- set known = [own['address']] + own['other_addresses'] + ([fleet['virtual_address']] if fleet['virtual_address'] else []) %}
{%- for address in salt['firewall.unknown_addresses'](known) %}

notice of {{ address }}:
  test.show_notification:
    - text: >-
        {{ pillar['host']['id'] }} has the address {{ address }}, which site/fleet.yaml does not name: apps of other hosts
        take it for the internet. Add it to other_addresses of the host.
{%- endfor %}

nftables.service:
  daemon.running:
    - reload: True
    - inputs:
      - /etc/nftables.conf
    - require:
      - firewall: the firewall
    - watch:
      - file: /etc/nftables.conf
      - file: /etc/systemd/system/nftables.service.d/saltern.conf
