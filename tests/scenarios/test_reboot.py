"""After a reboot, and after the plug was pulled, the whole stack serves again with no help."""

from __future__ import annotations

import time

import pytest

from debian import Refused
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
    deadline = time.monotonic() + SERVES_WITHIN
    while True:
        try:
            assert served.check(lab.site)
            break
        except Refused:
            assert time.monotonic() < deadline, f"not served within {SERVES_WITHIN} s of the boot"
            time.sleep(0.3)
    assert apply(one).changed == []
