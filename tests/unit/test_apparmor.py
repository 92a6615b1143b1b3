"""Where AppArmor is set up: the kernel has it and uses it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader

from tests.unit.contracts import ROOT

ENABLED = "/sys/module/apparmor/parameters/enabled"


@pytest.mark.parametrize(
    ("files", "set_up"),
    [
        ({ENABLED: "Y\n"}, True),
        ({ENABLED: "N\n"}, False),
        ({}, False),
        ({ENABLED: "Y\n", "/run/systemd/container": ""}, False),
        ({ENABLED: "Y\n", "/.dockerenv": ""}, False),
    ],
)
def test_only_a_kernel_that_uses_it_gets_the_service(files: dict[str, str], set_up: bool) -> None:
    """A kernel started with apparmor=0 has the file too, and N in it: the service's condition is never met there."""
    salt: dict[str, Any] = {"file.file_exists": files.__contains__, "file.read": files.__getitem__}
    jinja = Environment(loader=FileSystemLoader(ROOT / "salt"), extensions=["jinja2.ext.do"])
    jinja.filters["json"] = json.dumps  # Salt has it
    text = jinja.from_string((ROOT / "salt/base/apparmor.sls").read_text()).render(salt=salt)
    assert ("daemon.running" in text) is set_up and ("not here" in text) is not set_up
