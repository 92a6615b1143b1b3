"""What is left to do after updates is seen."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def updates(tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("updates", ROOT / "_modules/updates.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.REBOOT_REQUIRED, module.BOOT = tmp_path / "reboot-required", tmp_path / "boot"
    module.BOOT.mkdir()
    return module


@pytest.mark.parametrize(
    ("running", "installed", "asked", "why"),
    [
        ("6.1.0-9-amd64", [], None, ""),
        ("6.1.0-9-amd64", ["6.1.0-9-amd64"], None, ""),
        (
            "6.1.0-9-amd64",
            ["6.1.0-9-amd64", "6.1.0-10-amd64"],
            None,
            "6.1.0-10-amd64 is installed and 6.1.0-9-amd64 runs",
        ),
        ("6.1.0-10-amd64", ["6.1.0-9-amd64", "6.1.0-10-amd64"], None, ""),
        ("custom", ["6.1.0-9-amd64"], None, ""),
        ("6.1.0-9-amd64", [], ["dbus", "libc6", "dbus"], "dbus, libc6"),
        ("6.1.0-9-amd64", [], [], "by a package"),
    ],
)
def test_why_a_host_should_be_rebooted(
    updates, running: str, installed: list[str], asked: list[str] | None, why: str
) -> None:
    found = updates.why_reboot(running, installed, asked)
    assert why in found and bool(found) == bool(why)


def test_a_packages_wish_is_read_from_the_host(updates) -> None:
    assert updates.reboot_due() == ""
    updates.REBOOT_REQUIRED.touch()
    updates.REBOOT_REQUIRED.with_name("reboot-required.pkgs").write_text("linux-image-amd64\n")
    assert updates.reboot_due() == "asked for by linux-image-amd64"


def test_services_that_run_what_was_replaced(updates) -> None:
    printed = "NEEDRESTART-VER: 3.11\nNEEDRESTART-SVC: nginx.service\nNEEDRESTART-SVC: app-demo@1.service\n"
    assert updates.outdated_units(printed) == ["app-demo@1.service", "nginx.service"]
