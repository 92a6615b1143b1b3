#!py
"""Takes away what hosts grant to others and the site does not want any more, each as soon as nobody uses it:
  salt-run state.orchestrate orch.settle
  salt-run state.orchestrate orch.settle pillar='{"plan": true}'
orch.apply, orch.deploy, orch.rollback and orch.remove_host end with it. A host that runs apps is asked what runs
there; one that does not answer is not taken for one that needs nothing. It also names the apps whose new settings
wait for a release. docs/fleets.md has more.
"""

from saltern.orch import face, settle


def run():
    return face.rendered(settle, __pillar__, __salt__)
