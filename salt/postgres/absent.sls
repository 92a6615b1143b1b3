# The fleet has taken this role from the host. The cluster in /var/lib/postgresql stays.
postgresql@{{ salt['pg.version']() }}-main.service:
  daemon.dead: []
