base packages:
  pkg.installed:
    - install_recommends: False
    - pkgs:
      - aide
{#- Where the site is: on the master, or on a server without one. Its secrets may be encrypted (docs/secrets.md). #}
{%- set masters = [] %}
{%- for host in pillar['fleet']['hosts'].values() if 'master' in host['roles'] %}{% do masters.append(host) %}{% endfor %}
{%- if 'master' in pillar['host']['roles'] or not masters %}
      - age
{%- endif %}
      - ca-certificates
      - curl
      - debsums
      - needrestart
      - openssh-server
      - procps
      - sudo
      - tzdata
      - unattended-upgrades
