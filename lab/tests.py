"""The proof: tiers of tests, cheapest first. Hosts and scenarios have labs of their own, for each Debian release; what
needs many hosts has one, on the newest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.markup import escape

from debian import REPOSITORY, Refused, need_root
from lab import fleet, machine
from lab.apply import apply, explain
from lab.lab import Lab
from lab.output import say, stage

TIERS = ("unit", "compile", "hosts", "scenarios", "fleet")
FIRST = "tests/scenarios/test_apply.py"
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@dataclass
class Count:
    """What the test runners counted."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, report: Path) -> None:
        """Add a pytest report; one that is missing counts as a failure."""
        if not report.exists():
            self.failed += 1
            return
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314  we wrote it ourselves
            total, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
            failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            self.passed += total - skipped - failed
            self.failed += failed
            self.skipped += skipped


def run(tiers: list[str], keyword: str | None = None, releases: list[str] | None = None) -> int:
    """Run the tiers and return an exit code: 0 only when tests ran and all passed.

    Args:
        tiers: names from TIERS; none means all.
        keyword: pytest's -k.
        releases: Debian codenames of the hosts; none means all.

    Raises:
        Refused: an unknown tier, or no root for those that need it.
    """
    unknown = set(tiers) - set(TIERS)
    if unknown:
        raise Refused(f"there is no tier {', '.join(sorted(unknown))}: choose from {', '.join(TIERS)}")
    chosen = [tier for tier in TIERS if not tiers or tier in tiers]
    if {"hosts", "scenarios", "fleet"} & set(chosen):
        need_root(f"bin/lab test {' '.join(tiers)}".strip())
    count = Count()
    select = ["-k", keyword] if keyword else []
    for tier in chosen:
        if tier in ("unit", "compile"):
            say(f"[bold]{tier}[/]")
            _pytest(count, [f"tests/{tier}", *select], unprivileged=tier == "compile")
    on_hosts = [tier for tier in chosen if tier in ("hosts", "scenarios")]
    if on_hosts:
        machine.prepare()
        chosen_releases = releases or machine.known_releases()
        for release in chosen_releases:
            sample = release != chosen_releases[0]  # the slow scenarios run once
            _on_lab(
                f"t-{release}",
                "single",
                release,
                partial(_host_tiers, count, tiers=on_hosts, select=select, sample=sample),
                count,
            )
    if "fleet" in chosen:
        machine.prepare()
        release = (releases or machine.known_releases())[0]
        _on_lab("t-fleet", "pair", release, partial(_fleet_tier, count, select=select), count)
    print(f"\n{count.passed} passed, {count.failed} failed, {count.skipped} skipped")
    return 1 if count.failed or not count.passed else 0


def _host_tiers(count: Count, lab: Lab, *, tiers: list[str], select: list[str], sample: bool) -> None:
    """The first apply is a scenario too: it needs the bare hosts. The others, and the host tests, need its result."""
    where = ["--lab", lab.name, "--site", str(lab.site), "--ssh-config", str(lab.ssh_config)]
    say(f"[bold]{' and '.join(tiers)}, Debian {lab.record.release}[/]")
    if "scenarios" in tiers and not select:
        _pytest(count, [FIRST, *where])
    else:
        for host in lab.hosts():
            outcome = apply(host)
            if not outcome.ok:
                raise Refused(explain(outcome))
    for tier in tiers:
        _pytest(count, [f"tests/{tier}", f"--ignore={FIRST}", *where, *select, *(["--sample"] if sample else [])])


def _fleet_tier(count: Count, lab: Lab, *, select: list[str]) -> None:
    """Many hosts under a master: the host tests of all its roles, then what they do together."""
    where = ["--lab", lab.name, "--site", str(lab.site), "--ssh-config", str(lab.ssh_config)]
    say(f"[bold]fleet {lab.fleet['name']}, Debian {lab.record.release}[/]")
    bad = [explain(outcome) for outcome in fleet.apply_all(lab) if not outcome.ok]
    if bad:
        raise Refused("\n".join(bad))
    for tests in ("tests/hosts", "tests/scenarios_fleet"):
        _pytest(count, [tests, *where, *select])


def _on_lab(name: str, site: str, release: str, work: Callable[[Lab], None], count: Count) -> None:
    """Do `work` on a fresh lab of that fleet and release, and take the lab away whatever happens."""
    lab = Lab(name)
    with lab.locked(), stage(f"a fresh lab {lab.name}"):
        lab.destroy()
        lab.make(site, release)
    try:
        work(lab)
    except Refused as why:
        say(f"[red]{escape(str(why))}[/]")
        count.failed += 1
    finally:
        with stage(f"removing lab {lab.name}"):
            lab.destroy()


def _pytest(count: Count, arguments: list[str], unprivileged: bool = False) -> None:
    """Run pytest; as root, tests that must not need root run as nobody."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
        if "--lab" not in arguments:  # tests on a lab share its hosts, the others share nothing
            command += ["--numprocesses=auto", "--dist=worksteal"]
        env, where = dict(os.environ), REPOSITORY
        if unprivileged and os.geteuid() == 0:
            Path(folder).chmod(0o777)
            where = _readable(Path(folder))
            command = [*AS_NOBODY, *command]
            env |= {"HOME": folder, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": folder}
            env["PYTHONPATH"] = env["PYTHONPATH"].replace(str(REPOSITORY), str(where))
        done = subprocess.run(command, cwd=where, env=env, check=False)
        count.add(report)
        if done.returncode not in (0, 1, 5):  # 1: failures, counted; 5: -k matched nothing in this tier
            count.failed += 1


def _readable(folder: Path) -> Path:
    """Return the repository, or, when it lies where nobody may not look, a copy of it in `folder`."""
    if subprocess.run([*AS_NOBODY, "test", "-r", str(REPOSITORY / "Saltfile")], check=False).returncode == 0:
        return REPOSITORY
    return Path(
        shutil.copytree(REPOSITORY, folder / "repository", ignore=shutil.ignore_patterns(".git"), symlinks=True)
    )


def check() -> int:
    """Run the linters, then the tests that need no root; all of them even if one finds something."""
    shell = [str(path) for path in (REPOSITORY / ".ci").iterdir()]
    sls = [str(path) for path in (REPOSITORY / "salt").rglob("*.sls")]
    commands = [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", "lab", "bin/debian.py", "bin/joining.py", "_pillar/saltern"],
        ["salt-lint", *sls],
        ["shellcheck", *shell],
    ]
    bad = 0
    tools = Path(sys.executable).parent
    for name, *arguments in commands:
        with stage(f"{name} {arguments[0] if arguments else ''}"):
            done = subprocess.run(
                [str(tools / name), *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
            )
        if done.returncode:
            bad += 1
            say(escape(done.stdout + done.stderr))
    return run(["unit", "compile"]) or bad
