{#- What every host is: a name, admins, sshd without passwords, security updates, the time, bounded logs, a closed
    firewall, the fleet's certificates. #}
include:
  - base.packages
  - base.names
  - base.admins
  - base.sshd
  - base.passwords
  - base.login
  - base.mounts
  - base.updates
  - base.integrity
  - base.time
  - base.journal
  - base.sysctl
  - base.apparmor
  - base.firewall
  - base.tls
  - base.certificates
  - base.private
  - base.needs
