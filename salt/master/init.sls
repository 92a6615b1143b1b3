{#- Applies the states of all minions: Salt's master, as a user of its own. Its address, its keys, its checklist:
    docs/roles/master.md and docs/security-master.md. #}
include:
  - master.user
  - master.config
  - master.service
