#!py
"""Gives all hosts of an app the release that they served before, at once, or none of them:
  salt-run state.orchestrate orch.rollback pillar='{"app": "demo"}'
Nothing is built and no migration is undone: where one is in the way, it is named and nothing happens.
"""

from saltern.orch import face, rollback


def run():
    return face.rendered(rollback, __pillar__, __salt__)
