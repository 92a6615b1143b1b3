"""From bare hosts: the plan names exactly what the apply changes, the second apply changes nothing, the plan is empty.

This file runs first, on hosts that have never been applied.
"""

from __future__ import annotations

from lab import served
from lab.apply import Outcome, apply, explain
from lab.lab import Lab


def checked(outcome: Outcome) -> Outcome:
    assert outcome.ok, explain(outcome)
    return outcome


def test_from_bare_to_converged(lab: Lab) -> None:
    for host in lab.hosts():
        planned = checked(apply(host, plan=True))
        did = checked(apply(host))
        assert did.changed, "a bare host has much to change"
        assert set(planned.changed) == set(did.changed), "the plan is not what the apply did"
        again = checked(apply(host))
        assert again.changed == []
        assert checked(apply(host, plan=True)).changed == []
    assert {page.status for page in served.check(lab.site)} == {200}
