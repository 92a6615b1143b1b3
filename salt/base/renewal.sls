{#- What saltern-certificates.service applies: this host's certificates, and the daemons that read them. A change of the site
    that waits for an apply still waits after it: no configuration is written, and no daemon restarts. #}
{%- set places = {
  'base': '/etc/saltern/tls',
  'postgres': '/etc/postgresql/tls',
  'redis': '/etc/redis/tls',
  'edge': '/etc/haproxy/tls',
} %}
{%- set held = places | select('in', pillar['host']['roles']) | list %}

include:
{%- for role in held %}
  - {{ role }}.tls
{%- endfor %}

the daemons that read certificates:
  daemon.reread:
    - paths:
{%- for role in held %}
      - {{ places[role] }}
{%- endfor %}
    - watch:
{%- for role in held %}
      - sls: {{ role }}.tls
{%- endfor %}
