# The fleet has taken this role from the host. Its key stays here; remove it on the master: salt-key -d ID
salt-minion.service:
  daemon.dead:
    - after_job: True
