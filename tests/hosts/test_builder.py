"""The builder: what it built is whole, and is what runs."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.role("builder")
BUILDS = "/var/lib/saltern/builds"


def test_every_build_is_what_its_manifest_says(host, apps: dict) -> None:
    for app in apps:
        folder = host.check_output(f"readlink -f {BUILDS}/{app}/current")
        manifest = json.loads(host.file(f"{folder}/manifest.json").content_string)
        assert manifest["files"], "a build without files"
        for name, digest in manifest["files"].items():
            assert host.check_output(f"sha256sum {folder}/{name}").split()[0] == digest


def test_every_wheel_is_locked_by_its_hash(host, apps: dict) -> None:
    for app in apps:
        wheels = host.check_output(f"ls {BUILDS}/{app}/current/wheels").split()
        lock = host.file(f"{BUILDS}/{app}/current/requirements.txt").content_string
        digests = host.check_output(f"cd {BUILDS}/{app}/current/wheels && sha256sum *")
        assert len(wheels) > 3
        assert all(line.split()[0] in lock for line in digests.splitlines())
