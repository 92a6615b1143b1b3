"""A host with role worker alone takes releases and runs processes; it has no web server and migrates nothing."""

from __future__ import annotations

from conftest import Masterless
from test_pillar import add_host, generate


def test_a_worker_of_its_own_has_releases_but_no_web_server(masterless: Masterless) -> None:
    add_host(masterless, "work1", "[base, worker]")
    generate(masterless)
    chunks = masterless.lowstate("work1", "trixie")
    functions = {f"{chunk['state']}.{chunk['fun']}" for chunk in chunks}
    assert {"release.staged", "processes.running", "processes.only"} <= functions
    assert not functions & {"release.active", "release.unit_present", "django.migrated", "django.static_collected"}
    assert "nginx" not in str([chunk for chunk in chunks if chunk["__sls__"] != "web.absent"])
