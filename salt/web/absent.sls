# The fleet has taken this role from the host. Releases and the apps' data stay; role worker uses the releases too.
nginx.service:
  daemon.dead: []

no app runs here:
  release.only:
    - apps: []
