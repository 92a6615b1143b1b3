{%- set wiring = pillar['wiring']['base'] %}
{%- set users = wiring['egress']['callers'] | map(attribute='users') | sum(start=[]) %}
{#- Who runs apps is known by number, so the accounts come first; nothing runs as one before the rules are loaded. #}
{%- if users %}
include:
  - web.users
{%- endif %}

nftables:
  pkg.installed:
    - install_recommends: False

/etc/nftables.conf:
  file.managed:
    - source: salt://base/files/nftables.conf.jinja
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - check_cmd: /usr/sbin/nft -c -f
    - require:
      - pkg: nftables
      {%- for user in users %}
      - account: {{ user | json }}
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
    - wiring: {{ wiring | json }}
    - require:
      - file: /etc/nftables.conf

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
