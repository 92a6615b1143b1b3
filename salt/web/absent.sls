# The fleet has taken this role from the host. Releases and the apps' data stay; role worker uses the releases too.
{%- if not pillar['wiring'].get('builder', {}).get('listen') %}
nginx.service:
  daemon.dead: []
{%- endif %}

no app runs here:
  release.only:
    - apps: []
