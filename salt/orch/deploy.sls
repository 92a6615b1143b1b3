#!py
"""Gives all hosts of an app its newest source and settings at once, or none of them:
  salt-run state.orchestrate orch.deploy pillar='{"app": "demo"}'
The settings alone, with the build that serves, also after a rollback and whatever the source has become since:
  salt-run state.orchestrate orch.deploy pillar='{"app": "demo", "build": "same"}'
Until "in force", what served before runs on beside the new release; whatever fails before puts every host back.
"""

from saltern.orch import deploy, face


def run():
    return face.rendered(deploy, __pillar__, __salt__)
