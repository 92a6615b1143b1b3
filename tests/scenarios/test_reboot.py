"""After a reboot, and after the plug was pulled, the whole stack serves again with no help."""

from __future__ import annotations

import pytest

from lab import served
from lab.apply import apply
from lab.host import Host
from lab.lab import Lab

SERVES_WITHIN = 60


@pytest.mark.parametrize("how", ["in order", "power cut"])
def test_it_serves_again(lab: Lab, one: Host, how: str) -> None:
    if how == "in order":
        one.stop()
    else:
        one.power_off()
    one.boot()
    assert {page.status for page in served.check(lab.site, within=SERVES_WITHIN)} == {200}
    assert apply(one).changed == []
