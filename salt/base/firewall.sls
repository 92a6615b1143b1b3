{%- set wiring = pillar['wiring']['base'] %}
{%- set rules = salt['firewall.ruleset'](wiring['open_ports'], wiring['vrrp_from']) %}

nftables:
  pkg.installed:
    - install_recommends: False

/etc/nftables.conf:
  file.managed:
    - contents: {{ rules | json }}
    - user: root
    - group: root
    - mode: '0644'
    - check_cmd: /usr/sbin/nft -c -f
    - require:
      - pkg: nftables

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
    - rules: {{ rules | json }}
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
