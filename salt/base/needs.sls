# What this host grants to apps and hosts: remembered before it is given, and taken away when nothing that was started with
# it runs any more (docs/decisions/0015-needs.md).
include:
  - base.settled

what is granted:
  needs.remembered:
    - order: 1
