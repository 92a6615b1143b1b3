# The fleet has taken this role from the host. The keys in /etc/salt/pki/master stay.
salt-master.service:
  daemon.dead:
    - after_job: True
