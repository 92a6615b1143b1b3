{#- PostgreSQL as Debian ships it: sized for the host, closed but for the apps that the fleet lets in. #}
include:
  - postgres.packages
  - postgres.config
  - postgres.service
  - postgres.databases
  - postgres.guard
