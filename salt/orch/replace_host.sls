#!py
"""Puts another machine in the place of a web host or a worker, under the same id; its address may be another one. The
new machine runs, and the master has its key instead of the old one's; the old machine may be gone or run on:
  salt-run state.orchestrate orch.replace_host pillar='{"host": "web1"}'
Hosts of other roles hold data, or are what all others depend on.
"""

from saltern.orch import face, replace_host


def run():
    return face.rendered(replace_host, __pillar__, __salt__)
