#!py
"""The whole fleet, or some of its hosts, in the order in which they need each other:
  salt-run state.orchestrate orch.apply
  salt-run state.orchestrate orch.apply pillar='{"hosts": ["web1"], "plan": true}'
A rank begins when the one before is right; hosts of one rank are applied at the same time.
"""

from saltern.orch import apply, face


def run():
    return face.rendered(apply, __pillar__, __salt__)
