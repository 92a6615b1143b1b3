{#- HAProxy: TLS and HTTP/2 for the world, health checks and a choice of web hosts behind it; an address that edges share. #}
include:
  - edge.config
  - edge.service
  - edge.sweep
  - edge.keepalived
{%- if 'web' in pillar['host']['roles'] and pillar['wiring']['web']['edges']
      and salt['edge.takes_plain_http'](pillar['web']['port'], pillar['host']['id'], pillar['fleet']['hosts']) %}
  - edge.after_plain_http
{%- endif %}
