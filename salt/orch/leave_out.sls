#!py
"""The edges send no more requests to the web hosts that do not answer the master now; orch.deploy calls it.
Bring one back when it is well again:  salt -L EDGES edge.bring_in HOST
"""

from saltern.orch import face, leave_out


def run():
    return face.rendered(leave_out, __pillar__, __salt__)
