"""Every host of every example fleet, compiled by Salt itself to low state, without root, for both Debian releases."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from saltern.site.load import load_site
from saltern.site.secrets import generate_secrets

ROOT = Path(__file__).resolve().parents[2]
FLEETS = sorted(path.parent for path in (ROOT / "lab/fleets").glob("*/fleet.yaml"))
# What a state may ask of a host before anything is installed there, as the two releases answer.
GRAINS = {
    "bookworm": {"osmajorrelease": 12, "osrelease": "12", "oscodename": "bookworm", "osfinger": "Debian-12"},
    "trixie": {"osmajorrelease": 13, "osrelease": "13", "oscodename": "trixie", "osfinger": "Debian-13"},
}
COMMON = {"os": "Debian", "os_family": "Debian", "mem_total": 4096, "num_cpus": 2, "init": "systemd"}


@dataclass(frozen=True)
class Target:
    """One host to compile."""

    fleet: Path
    host: str
    release: str

    def __str__(self) -> str:
        return f"{self.fleet.name}-{self.host}-{self.release}"


def targets(fleets: list[Path] = FLEETS) -> list[Target]:
    """Return every host of every fleet on every release."""
    return [
        Target(fleet, host, release)
        for fleet in fleets
        for host in yaml.safe_load((fleet / "fleet.yaml").read_text())["hosts"]
        for release in GRAINS
    ]


@functools.cache
def _warm() -> subprocess.Popen[str]:
    """The process that has Salt imported; it ends when its input does, with this one."""
    command = [sys.executable, str(Path(__file__).with_name("warm.py"))]
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def _warm_salt(asked: dict[str, Any]) -> int:
    """Have a salt-call run, and return its exit code."""
    warm = _warm()
    assert warm.stdin and warm.stdout
    print(json.dumps(asked), file=warm.stdin, flush=True)
    return int(warm.stdout.readline())


class Masterless:
    """A copy of what an operator has, where Salt runs masterless and writes only to its own folder.

    Args:
        folder: a scratch folder.
        fleet: the example site to copy; secrets are generated.
    """

    def __init__(self, folder: Path, fleet: Path):
        self.root = folder / "saltern"
        self.root.mkdir()
        for name in ("salt", "pillar", "_modules", "_states", "saltern", "_pillar", "Saltfile"):
            if (ROOT / name).exists():
                (self.root / name).symlink_to(ROOT / name)
        shutil.copytree(fleet, self.root / "site", ignore=shutil.ignore_patterns("secrets"))
        site = load_site(self.root / "site")
        generate_secrets(site)
        self.addresses = {name: host.address for name, host in site.fleet.hosts.items()}
        shutil.copytree(ROOT / "etc", self.root / "etc")

    def call(
        self, *arguments: str, host: str, release: str, grains: dict | None = None, by_ssh: bool = False
    ) -> subprocess.CompletedProcess:
        """Run salt-call from the root, as the Saltfile has it, as a host that has another id and release."""
        conf = self.root / "etc/masterless/minion"
        settings = yaml.safe_load(conf.read_text())
        settings |= {"root_dir": str(self.root / "run"), "log_file": str(self.root / "run/log"), "id": host}
        own = {"ip4_interfaces": {"lo": ["127.0.0.1"], "host0": [self.addresses.get(host)]}}
        settings |= {"include": [], "grains": {**COMMON, **own, **GRAINS[release], **(grains or {})}}
        conf.write_text(yaml.safe_dump(settings))
        out, err = self.root / "out", self.root / "err"
        asked = {"arguments": ["--out=json", "--log-level=warning", *arguments], "cwd": str(self.root)}
        asked["env"] = {"PATH": os.environ["PATH"], "HOME": str(self.root), "LANG": "C.UTF-8"}
        asked["by_ssh"] = by_ssh
        code = _warm_salt(asked | {"out": str(out), "err": str(err)})
        done = subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())
        out.unlink(), err.unlink()
        return done

    def lowstate(self, host: str, release: str, by_ssh: bool = False) -> list[dict]:
        """Return the host's compiled states; fails the test with Salt's words when they do not compile."""
        done = self.call("state.show_lowstate", host=host, release=release, by_ssh=by_ssh)
        assert done.returncode == 0, done.stdout + done.stderr
        answer = json.loads(done.stdout)["local"]
        assert answer and all(isinstance(chunk, dict) for chunk in answer), answer
        return answer


@pytest.fixture
def masterless(tmp_path: Path) -> Masterless:
    """The single fleet, ready to compile."""
    return Masterless(tmp_path, ROOT / "lab/fleets/single")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Of the example fleets, or of the one site that was given (`bin/lab check SITE`)."""
    chosen = [marker.args[0] for marker in metafunc.definition.iter_markers("parametrize")]
    if "one" in metafunc.fixturenames and "one" not in chosen:
        given = metafunc.config.getoption("--site")
        hosts = targets([Path(given)] if given else FLEETS)
        metafunc.parametrize("one", hosts, indirect=True, scope="session", ids=str)


@pytest.fixture(scope="session")
def one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Masterless, Target]:
    """One host, and where it is compiled."""
    target: Target = request.param
    return Masterless(tmp_path_factory.mktemp("compile"), target.fleet), target


@pytest.fixture(scope="session")
def lowstate(one: tuple[Masterless, Target]) -> list[dict]:
    """The low state of one host."""
    here, target = one
    return here.lowstate(target.host, target.release)
