"""The builder: what it built is whole, and is what runs."""

from __future__ import annotations

import json

import pytest

from saltern.build.workshops import build_user
from saltern.site.apps import App

pytestmark = pytest.mark.role("builder")
BUILDS = "/var/lib/saltern/builds"


def test_every_build_is_what_its_manifest_says(host, apps: dict[str, App]) -> None:
    for app in apps:
        folder = host.check_output(f"readlink -f {BUILDS}/{app}/current")
        manifest = json.loads(host.file(f"{folder}/manifest.json").content_string)
        assert manifest["files"], "a build without files"
        for name, digest in manifest["files"].items():
            assert host.check_output(f"sha256sum {folder}/{name}").split()[0] == digest


def test_every_wheel_is_locked_by_its_hash(host, apps: dict[str, App]) -> None:
    for app in apps:
        wheels = host.check_output(f"ls {BUILDS}/{app}/current/wheels").split()
        lock = host.file(f"{BUILDS}/{app}/current/requirements.txt").content_string
        digests = host.check_output(f"cd {BUILDS}/{app}/current/wheels && sha256sum *")
        assert len(wheels) > 3
        assert all(line.split()[0] in lock for line in digests.splitlines())


def test_builds_are_closed_to_other_apps_and_signed(host, apps: dict[str, App]) -> None:
    for app in apps:
        folder = host.file(f"{BUILDS}/{app}")
        assert (folder.user, folder.group, folder.mode) == ("root", "www-data", 0o750)
        manifest = json.loads(host.file(f"{BUILDS}/{app}/current/manifest.json").content_string)
        assert (manifest["app"], len(manifest["id"])) == (app, 12)
        assert len(host.file(f"{BUILDS}/{app}/current/manifest.sig").content_string.strip()) == 88
        assert "signature" in json.loads(host.file(f"{BUILDS}/{app}/released.json").content_string)


def test_each_app_is_built_as_a_user_of_its_own_who_runs_nothing_else(host, apps: dict[str, App]) -> None:
    for app in apps:
        name = build_user(app)
        user = host.user(name)
        assert user.exists and user.shell == "/usr/sbin/nologin" and user.groups == [name]
        assert not host.run(f"pgrep -u {name}").stdout
        workshop = host.file(f"/var/lib/saltern/workshops/{app}")
        if workshop.exists:  # not where an older Saltern made the newest build: there were none then
            assert (workshop.user, workshop.group, workshop.mode) == ("root", name, 0o750)


def test_nothing_that_apps_share_here_can_be_changed_by_one(host) -> None:
    shared = f"{BUILDS} $(ls -d /var/lib/saltern/workshops/.python 2>/dev/null)"
    found = host.check_output(f"find {shared} ! -user root -o -perm /o+w ! -type l")
    assert not found
