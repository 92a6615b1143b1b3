#!yaml
# Defaults of role base. Change them in the site's settings.yaml, not here.
base:
  timezone: Etc/UTC
  journal_max_mb: 500
  sysctl:
    vm.swappiness: 10
    net.core.somaxconn: 4096
  admins: {}
  ssh_from: null
