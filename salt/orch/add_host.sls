#!py
"""Brings a new host into the fleet, when it is in fleet.yaml, has its secrets, and the master has its key:
  salt-run state.orchestrate orch.add_host pillar='{"host": "web3"}'
The hosts that it uses let it in, it gets its own states (a web host the release that the fleet serves, asked until
it answers well), and then those that use it learn of it. After a failure run it again; it goes on from there.
"""

from saltern.orch import add_host, face


def run():
    return face.rendered(add_host, __pillar__, __salt__)
