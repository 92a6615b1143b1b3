"""The proof: tiers of tests, cheapest first. Hosts and scenarios have labs of their own, for each Debian release; what
needs many hosts has one, on the newest."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from debian import REPOSITORY, Refused, install_packages, need_root
from lab import fleet, images, machine
from lab.apply import apply, explain
from lab.lab import FLEETS, Lab
from lab.output import say, stage
from lab.traces import traces
from saltern.site.errors import SiteError
from saltern.site.load import load_site

TIERS = ("unit", "compile", "hosts", "scenarios", "fleet")
FIRST = "tests/scenarios/test_apply.py"
HOUSE_RULES = "test_states_obey_the_house_rules"
DEMO = "tests/scenarios/test_demo.py"  # what the demo shows of the whole stack: on every fleet
AT_ONCE = 3  # labs; their hosts wait often enough that two cores serve all three
COUNTED = "counted: "
TOLD_LINES, TOLD_WIDTH = 12, 220  # of each failure, once more at the very end: where people and CI look first
VAGRANT = "vagrant"  # the Debian package, and the command
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@dataclass
class Count:
    """What the test runners counted, and a text for each failure."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Count) -> None:
        """Add what another counted."""
        self.passed, self.failed = self.passed + other.passed, self.failed + other.failed
        self.skipped += other.skipped
        self.failures += other.failures

    def fail(self, why: str) -> None:
        """Count what failed outside of a test."""
        self.failed += 1
        self.failures.append(why)

    def read(self, report: Path, where: str) -> None:
        """Add a pytest report; one that is missing counts as a failure.

        Args:
            report: JUnit XML.
            where: words for whoever reads of a failure: a lab, or a tier.
        """
        if not report.exists():
            self.fail(f"{where}: pytest ended without a report")
            return
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314  we wrote it ourselves
            total, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
            failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            self.passed += total - skipped - failed
            self.failed += failed
            self.skipped += skipped
            for case in suite.iter("testcase"):
                for bad in (*case.findall("failure"), *case.findall("error")):
                    name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
                    self.failures.append(f"{where}: {name}\n{told(bad.get('message', ''))}")


def told(message: str) -> str:
    """Return a failure's message indented and cut to what a screen takes.

    Example:
        >>> told("AssertionError: two\\nlines")
        '    AssertionError: two\\n    lines'
    """
    lines = message.splitlines()
    shown = [line if len(line) <= TOLD_WIDTH else f"{line[:TOLD_WIDTH]} ..." for line in lines[:TOLD_LINES]]
    if len(lines) > TOLD_LINES:
        shown.append(f"... {len(lines) - TOLD_LINES} more lines above, where it failed")
    return "\n".join(f"    {line}" for line in shown)


@dataclass
class Job:
    """Tests that have a lab of their own.

    Args:
        lab: the lab's name.
        fleet: a name under lab/fleets/.
        release: Debian codename of its hosts.
        work: runs the tests on the lab, and counts.
    """

    lab: str
    fleet: str
    release: str
    work: Callable[[Count, Lab], None]


def run(tiers: list[str], keyword: str | None = None, releases: list[str] | None = None) -> int:
    """Run the tiers and return an exit code: 0 only when tests ran and all passed.

    Args:
        tiers: names from TIERS; none means all.
        keyword: pytest's -k.
        releases: Debian codenames of the hosts; none means all, and then each slow scenario runs on one of them.

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
            say((tier, "bold"))
            _pytest(count, [f"tests/{tier}", *select], unprivileged=tier == "compile")
    jobs = _jobs(chosen, select, releases)
    if jobs:
        machine.prepare()
        for release in {job.release for job in jobs}:  # beside the labs it takes three times as long, and one lab waits
            images.salted(release)
        side_by_side(jobs, count)
    for failure in count.failures:
        print(f"\nFAILED {failure}")
    print(f"\n{count.passed} passed, {count.failed} failed, {count.skipped} skipped")
    return 1 if count.failed or not count.passed else 0


def _jobs(chosen: list[str], select: list[str], releases: list[str] | None) -> list[Job]:
    """Return the labs that are needed, those that take longest first."""
    on_hosts = [tier for tier in chosen if tier in ("hosts", "scenarios")]
    jobs = []
    if "fleet" in chosen:
        sample = [] if chosen == ["fleet"] else ["--sample", "fleet"]
        work = partial(_fleet_tier, select=[*select, *sample])
        jobs.append(Job("t-fleet", "ha", (releases or machine.known_releases())[0], work))
    for release in (releases or machine.known_releases()) if on_hosts else []:
        sample = [] if releases else ["--sample", release]
        work = partial(_host_tiers, tiers=on_hosts, select=select, sample=sample)
        jobs.append(Job(f"t-{release}", "single", release, work))
    return jobs


def _host_tiers(count: Count, lab: Lab, *, tiers: list[str], select: list[str], sample: list[str]) -> None:
    """Run the tiers. The first apply is a scenario too: it needs the bare hosts; all others need its result."""
    where = ["--lab", lab.name, "--site", str(lab.site), "--ssh-config", str(lab.ssh_config)]
    say((f"{' and '.join(tiers)}, Debian {lab.record.release}", "bold"))
    if "scenarios" in tiers and not select:
        _pytest(count, [FIRST, *where])
    else:
        for host in lab.hosts():
            outcome = apply(host)
            if not outcome.ok:
                raise Refused(explain(outcome))
    for tier in tiers:
        _pytest(count, [f"tests/{tier}", f"--ignore={FIRST}", *where, *select, *sample])


def _fleet_tier(count: Count, lab: Lab, *, select: list[str]) -> None:
    """Many hosts under a master: the host tests of all its roles, then what they do together."""
    where = ["--lab", lab.name, "--site", str(lab.site), "--ssh-config", str(lab.ssh_config)]
    say((f"fleet {lab.fleet['name']}, Debian {lab.record.release}", "bold"))
    bad = [explain(outcome) for outcome in fleet.apply_all(lab) if not outcome.ok]
    if bad:
        raise Refused("\n".join(bad))
    for tests in ("tests/hosts", DEMO, "tests/scenarios_fleet"):
        _pytest(count, [tests, *where, *select])


def on_lab(job: Job) -> Count:
    """Do a job on a fresh lab, and take the lab away whatever happens."""
    lab, count = Lab(job.lab), Count()
    with lab.locked(), stage(f"a fresh lab {lab.name}"):
        lab.destroy()
        lab.make(job.fleet, job.release)
    try:
        job.work(count, lab)
    except Refused as why:
        say((str(why), "red"))
        count.fail(f"{lab.name}: {told(str(why)).lstrip()}")
    finally:
        with stage(f"removing lab {lab.name}"):
            lab.destroy()
        for what, left in traces(lab.name).items():
            if left:
                say((f"lab {lab.name} left {what} behind:", "red"), f"\n{left}")
                count.fail(f"{lab.name}: {what} left behind:\n{told(left)}")
    return count


def side_by_side(jobs: list[Job], count: Count) -> None:
    """Do each job in a process of its own, as many at once as the machine bears; each line says whose it is.

    Args:
        jobs: what to do.
        count: what the runners counted is added to it.
    """
    if len(jobs) == 1:
        count.add(on_lab(jobs[0]))
        return
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for found in threads.map(_in_a_process, jobs):
            count.add(found)


def _in_a_process(job: Job) -> Count:
    """Do a job in a process of its own, show what it prints as it comes, and answer what it counted."""
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "pipe"
        os.mkfifo(pipe)
        child = multiprocessing.get_context("spawn").Process(target=_child, args=(job, str(pipe)))
        child.start()
        found = Count(failed=1, failures=[f"{job.lab}: its process died"])  # which is true if it dies without a word
        with pipe.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(COUNTED):
                    found = Count(**json.loads(line.removeprefix(COUNTED)))
                else:
                    print(f"{job.lab:>10} │ {line}", end="", flush=True)
        child.join()
    return found


def _child(job: Job, pipe: str) -> None:
    writing = os.open(pipe, os.O_WRONLY)
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(writing)
    print(COUNTED + json.dumps(asdict(on_lab(job))), flush=True)


def _pytest(count: Count, arguments: list[str], unprivileged: bool = False) -> None:
    """Run pytest; as root, tests that must not need root run as nobody."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *arguments]
        if "--lab" in arguments:  # they share its hosts and take minutes: a line for each, as it ends
            command += ["--verbose", "--no-header", "--durations=12", "--durations-min=5"]
        else:
            processes = (os.cpu_count() or 1) + 1  # each waits for something a third of its time
            command += ["--quiet", f"--numprocesses={processes}", "--dist=worksteal"]
        env, where = dict(os.environ), REPOSITORY
        if unprivileged and os.geteuid() == 0:
            Path(folder).chmod(0o777)
            where = readable(Path(folder))
            command = [*AS_NOBODY, *command]
            env |= {"HOME": folder, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": folder}
            env["PYTHONPATH"] = env["PYTHONPATH"].replace(str(REPOSITORY), str(where))
        done = subprocess.run(command, cwd=where, env=env, check=False)
        lab = arguments[arguments.index("--lab") + 1] if "--lab" in arguments else "without a lab"
        count.read(report, lab)
        if done.returncode not in (0, 1, 5):  # 1: failures, counted; 5: -k matched nothing in this tier
            count.fail(f"{lab}: pytest ended with {done.returncode}")


def readable(folder: Path) -> Path:
    """Return the repository, or, when it lies where nobody may not look, as in /root, a copy of it in `folder`."""
    if subprocess.run([*AS_NOBODY, "test", "-r", str(REPOSITORY / "Saltfile")], check=False).returncode == 0:
        return REPOSITORY
    return Path(
        shutil.copytree(REPOSITORY, folder / "repository", ignore=shutil.ignore_patterns(".git"), symlinks=True)
    )


def check() -> int:
    """Run the linters, then the tests that need no root; all of them even if one finds something."""
    shell = [str(path) for path in (*(REPOSITORY / ".ci").iterdir(), REPOSITORY / "lab/vagrant/init")]
    sls = [str(path) for path in (REPOSITORY / "salt").rglob("*.sls")]
    commands = [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["lint-imports", "--no-cache"],
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
            say(done.stdout + done.stderr)
    bad += _check_secrets()
    bad += _check_vagrantfile()
    return run(["unit", "compile"]) or bad


def check_site(folder: Path) -> int:
    """Check a site's files, and compile each of its hosts for both Debian releases, as Salt would; no root.

    Args:
        folder: the site; its secrets are not needed, for others are made up.

    Raises:
        Refused: the site has errors; the message has all of them.
    """
    try:
        site = load_site(folder)
    except SiteError as error:
        raise Refused(str(error)) from None
    hosts = f"{len(site.fleet.hosts)} host{'s' * (len(site.fleet.hosts) != 1)}"
    say("  ", ("✓", "green"), f" {folder}: no errors in {hosts} and {len(site.apps)} app{'s' * (len(site.apps) != 1)}")
    count = Count()
    with stage(f"compiling {hosts} for Debian 12 and 13"):
        _pytest(count, ["tests/compile/test_states.py", "-k", HOUSE_RULES, "--site", str(folder.resolve())])
    for failure in count.failures:
        print(f"\nFAILED {failure}")
    return 1 if count.failed or not count.passed else 0


def _check_secrets() -> int:
    """Look for secrets that lie in Git in clear: in this repository, and in the site's when it has one of its own."""
    bad = 0
    for folder in (REPOSITORY, REPOSITORY / "site"):
        if not (folder / ".git").exists():
            continue
        with stage(f"bin/secrets-in-git {folder}"):
            command = [str(REPOSITORY / "bin/secrets-in-git"), str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            bad += 1
            say(done.stdout + done.stderr)
    return bad


def _check_vagrantfile() -> int:
    """Have Vagrant read the Vagrantfile with each fleet, and return how many it refuses."""
    if os.geteuid() == 0:
        install_packages([VAGRANT])
    elif not shutil.which(VAGRANT):
        say("  - Vagrantfile: not checked, for Vagrant is not installed. As root,  bin/lab check  installs it.")
        return 0
    bad = 0
    for fleet_file in sorted(FLEETS.glob("*/fleet.yaml")):
        name = fleet_file.parent.name
        with stage(f"vagrant validate, fleet {name}"), tempfile.TemporaryDirectory() as folder:
            env = os.environ | {"FLEET": name, "VAGRANT_HOME": folder, "VAGRANT_DOTFILE_PATH": folder}
            done = subprocess.run(
                [VAGRANT, "validate", "--ignore-provider"],
                cwd=REPOSITORY,
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            bad += 1
            say(done.stdout + done.stderr)
    return bad
