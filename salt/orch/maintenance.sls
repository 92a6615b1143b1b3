#!py
"""Takes a web host out of the edges, lets it end its last request, works on it, and brings it back:
  salt-run state.orchestrate orch.maintenance pillar='{"host": "web1"}'
  salt-run state.orchestrate orch.maintenance pillar='{"host": "web1", "reboot": true}'
  salt-run state.orchestrate orch.maintenance pillar='{"host": "web1", "reboot": "due"}'
The last one reboots it only when an update has asked for that (salt '*' updates.due).
The work is to apply its states. Where that fails the host stays out, and the output says so. A host that was out
before is brought in as well, when all has gone well.
"""

from saltern.orch import face, maintenance


def run():
    return face.rendered(maintenance, __pillar__, __salt__)
