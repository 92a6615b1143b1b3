# The fleet has taken this role from the host.
no app has processes here:
  processes.only:
    - apps: []
