#!py
"""Replaces a secret over the fleet: old and new are both good until nobody uses the old one. No request is lost:
  salt-run state.orchestrate orch.rotate pillar='{"app": "demo", "secret": "database"}'
  salt-run state.orchestrate orch.rotate pillar='{"secret": "ca"}'
After a failure, or a kill anywhere, the same command goes on from there. It begins only where an apply of the hosts that
compare the secret would change nothing else; "force": true begins all the same, and ends an old one that is used. "finish":
true ends an old secret_key before its days are over. docs/secrets.md has the list.
"""

from saltern.orch import face, rotate


def run():
    return face.rendered(rotate, __pillar__, __salt__)
