{#- HAProxy: TLS and HTTP/2 for the world, health checks and a choice of web hosts behind it; an address that edges share. #}
include:
  - edge.config
  - edge.service
  - edge.sweep
  - edge.keepalived
