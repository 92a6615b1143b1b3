{#- What every host is: a name, admins, sshd without passwords, the time, bounded logs, a closed
    firewall, the fleet's certificates. #}
include:
  - base.packages
  - base.names
  - base.admins
  - base.sshd
  - base.time
  - base.journal
  - base.sysctl
  - base.firewall
  - base.tls
