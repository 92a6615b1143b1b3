# The fleet has taken this role from the host.
haproxy.service:
  daemon.dead: []
