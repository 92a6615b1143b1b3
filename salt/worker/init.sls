# Runs the apps' background processes and timers, from the same releases as role web, without a web server.
include:
  - web.apps
  - worker.processes
