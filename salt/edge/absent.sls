# The fleet has taken this role from the host. The shared address goes first, to an edge that serves.
include:
  - edge.keepalived_absent

saltern-edge-sweep.service:
  daemon.dead: []

haproxy.service:
  daemon.dead:
    - require:
      - sls: edge.keepalived_absent
