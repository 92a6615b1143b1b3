#!py
"""Takes a host out of the fleet, when it is not in fleet.yaml any more but runs still (or is gone already):
  salt-run state.orchestrate orch.remove_host pillar='{"host": "web3"}'
The edges send it nothing new and wait for its last answers; an edge gives up the shared address and ends its own. Its
background work ends, all others forget it, and at last, when nothing is granted to it any more, the master forgets
its key. Then the machine may be turned off.
"""

from saltern.orch import face, remove_host


def run():
    return face.rendered(remove_host, __pillar__, __salt__)
