# The fleet has no address that its edges share. keepalived gives it up when it stops.
keepalived.service:
  daemon.dead: []
