"""bin/verify: the host tests as a command. It asks any site's hosts, over ssh, whether all is as the site says."""

from __future__ import annotations

import argparse
import os
import re
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from debian import REPOSITORY, Refused, version
from lab.output import CONTROL, detail, result, say, stage
from saltern.site.errors import SiteError, nearest
from saltern.site.load import load_site
from saltern.site.roles import ROLES
from saltern.site.site import Site

USAGE = 2  # the exit code of what was asked wrongly, as argparse has it
REASON_LINES, REASON_WIDTH = 3, 300
# testinfra's words for it.
COMMAND_FAILED = re.compile(
    r"Unexpected exit code (\d+) for CommandResult\(.*?"
    r"command=b(['\"])(.*?)\2, _stdout=b(['\"])(.*?)\4, _stderr=b(['\"])(.*?)\6\)"
)
EXAMPLES = """\
examples:
  sudo bin/verify /var/lib/saltern/labs/single/site     a lab's hosts; its ssh configuration is found beside the site
  bin/verify site --read-only                           production: nothing that a visitor or an app could notice
  bin/verify site --host web1 --host web2               only these; who else is needed is asked all the same

How hosts are reached: by your ssh, with your ~/.ssh/config or the one given. A host that it does not name is looked for
at its address in fleet.yaml, as root. Another user needs sudo without a password. Nothing ever asks for a password.

Without --read-only the tests also end daemons with kill -9 (all come back within seconds), start the apps' timers, lock
and unlock an account of their own and write a row into the ledger of each app: do that to a new server, or at night.

Exit code: 0 all passed, 1 something failed, 2 asked wrongly. In CI: docs/ci.md."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="bin/verify",
        description="Ask the hosts of a site, over ssh and by what they do, whether all is as the site says.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"saltern {version()}")
    top.add_argument("site", metavar="SITE", help="the site's folder; its secrets are not needed")
    top.add_argument("--host", metavar="ID", action="append", default=[], help="only this host; may be said repeatedly")
    top.add_argument("--read-only", action="store_true", help="leave out what disturbs: for hosts that are in use")
    top.add_argument("--ssh-config", metavar="FILE", help="in place of ~/.ssh/config (a lab's is found by itself)")
    top.add_argument("--ca", metavar="FILE", action="append", default=[], help="CAs of your edges' own certificates")
    top.add_argument(
        "--junit", metavar="FILE", default="verify.xml", help="JUnit XML for CI (default: verify.xml here)"
    )
    top.add_argument("-k", dest="keyword", metavar="WORDS", help="only tests whose name matches, as pytest's -k")
    return top


@dataclass
class Cell:
    """What the tests of one role found on one host."""

    total: int = 0
    ended: int = 0
    passed: int = 0
    failed: dict[str, str] = field(default_factory=dict)  # reason by test
    skipped: dict[str, str] = field(default_factory=dict)


def reason(report: Any) -> str:
    """Return why a test failed or was left out, on one line.

    Args:
        report: pytest's, of one phase of one test, or of a file that could not be read.
    """
    text = report.longrepr
    if isinstance(text, tuple):  # a skip: file, line, text
        return str(text[2]).removeprefix("Skipped: ")
    crash = getattr(text, "reprcrash", None)
    lines = str(crash.message if crash else text).strip().splitlines()[:REASON_LINES]
    line = CONTROL.sub("", plain(" ".join(part.strip() for part in lines)).removeprefix("Failed: "))
    return line if len(line) <= REASON_WIDTH else f"{line[:REASON_WIDTH]} ..."


def plain(text: str) -> str:
    """Return a failure of a command on a host as people would say it; any other text as it is.

    Example:
        >>> plain("AssertionError: Unexpected exit code 2 for CommandResult(backend=<x>, exit_status=2, "
        ...       "command=b'cat /x', _stdout=b'', _stderr=b'no such file\\\\n') assert 2 == 0")
        'exit code 2 of `cat /x`: no such file'
    """
    found = COMMAND_FAILED.search(text)
    if found is None:
        return text
    code, _, command, _, out, _, err = found.groups()
    said = (err or out).replace("\\n", " ").strip()
    return f"exit code {code} of `{command}`" + (f": {said}" if said else "")


class Watcher:
    """Counts for each host and role, and tells what is being asked and what has failed; in place of pytest's own words.

    Args:
        site: whose hosts are asked.
    """

    def __init__(self, site: Site) -> None:
        self.cells = {(host, role): Cell() for host, entry in site.fleet.hosts.items() for role in entry.roles}
        self.broken: list[str] = []  # what failed and is no test of a host
        self.told: set[tuple[str, str]] = set()

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.pluginmanager.unregister(name="terminalreporter")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.broken.append(f"{report.nodeid}: {reason(report)}")

    def pytest_internalerror(self, excrepr: object) -> None:
        self.broken.append(str(excrepr).strip().splitlines()[-1])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            self._cell(item.user_properties).total += 1

    def _cell(self, properties: list[tuple[str, Any]]) -> Cell:
        about = dict(properties)
        return self.cells[about["host"], about["role"]]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        about: dict[str, Any] = dict(report.user_properties)
        cell, test = self._cell(report.user_properties), _name(report)
        if report.failed and test not in cell.failed:
            cell.failed[test] = reason(report)
            self._tell(about["host"], about["role"], test, cell.failed[test])
        elif report.skipped:
            cell.skipped[test] = reason(report)
        elif report.when == "call" and report.passed:
            cell.passed += 1
        if report.when != "teardown":
            done = sum(one.ended for one in self.cells.values())
            detail(f"{done} of {sum(one.total for one in self.cells.values())}: {about['host']} {about['role']} {test}")
            return
        cell.ended += 1
        if cell.ended == cell.total:
            mark = ("✗", "red") if cell.failed else ("✓", "green")
            say("  ", mark, f" {about['host']} {about['role']}: {_words(cell)}")

    def _tell(self, host: str, role: str, test: str, why: str) -> None:
        """Tell of a test; a host that is not reached fails each of its own, and is told once."""
        once = (host, why) if why.startswith("not reached") else (host, f"{role} {test}")
        if once not in self.told:
            self.told.add(once)
            say("    ", ("✗", "red"), f" {host} {role} {test}: ", (why, "dim"))


def _name(report: pytest.TestReport) -> str:
    """Return a test's name without its host, which stands beside it."""
    name, bracket, rest = report.nodeid.partition("::")[2].partition("[")
    parts = [part for part in rest.removesuffix("]").split("-") if bracket]
    about: dict[str, Any] = dict(report.user_properties)
    host = str(about["host"]).split("-")
    for start in range(len(parts)):  # an id may have a dash in it, too
        if parts[start : start + len(host)] == host:
            parts[start : start + len(host)] = []
            break
    return f"{name}[{'-'.join(parts)}]" if parts else name


def _words(cell: Cell) -> str:
    counted = [(cell.passed, "passed"), (len(cell.failed), "failed"), (len(cell.skipped), "left out")]
    return ", ".join(f"{number} {what}" for number, what in counted if number)


def table(cells: dict[tuple[str, str], Cell]) -> list[str]:
    """Return the hosts and their roles with what was counted, and below each what failed and why.

    Args:
        cells: by host and role; a role of which no test was chosen has no line.

    Example:
        >>> print("\\n".join(table({("web1", "base"): Cell(total=3, passed=2, failed={"test_x": "no"})})))
        host  role  passed  failed  left out
        web1  base       2       1         0
          ✗ test_x: no
    """
    shown = {key: cell for key, cell in cells.items() if cell.total}
    widths = [max(len(word) for word in column) for column in zip(("host", "role"), *shown, strict=True)]
    lines = [f"{'host':{widths[0]}}  {'role':{widths[1]}}  passed  failed  left out"]
    for (host, role), cell in shown.items():
        counts = f"{cell.passed:6}  {len(cell.failed):6}  {len(cell.skipped):8}"
        lines.append(f"{host:{widths[0]}}  {role:{widths[1]}}  {counts}")
        lines += [f"  ✗ {why}" for why in dict.fromkeys(_why(test, why) for test, why in cell.failed.items())]
    return lines


def _why(test: str, why: str) -> str:
    return why if why.startswith("not reached") else f"{test}: {why}"


def left_out(cells: dict[tuple[str, str], Cell]) -> list[str]:
    """Return each reason for which tests were left out, with how many, most first."""
    count: dict[str, int] = {}
    for cell in cells.values():
        for why in cell.skipped.values():
            count[why] = count.get(why, 0) + 1
    return [f"left out {number}: {why}" for why, number in sorted(count.items(), key=lambda one: -one[1])]


def checked(options: argparse.Namespace) -> Site:
    """Return the site, when all that was typed makes sense.

    Raises:
        Refused: something does not; the message is one sentence.
        SiteError: the site has errors.
    """
    site = load_site(options.site)
    for name in options.host:
        if name not in site.fleet.hosts:
            raise Refused(f"--host {name}: {nearest(name, list(site.fleet.hosts))}, as in {options.site}/fleet.yaml")
    for what, file in [("--ssh-config", options.ssh_config), *(("--ca", ca) for ca in options.ca)]:
        if file and not (Path(file).is_file() and os.access(file, os.R_OK)):
            raise Refused(f"{what} {file}: there is no such file, or you may not read it")
    for file in options.ca:
        try:
            ssl.create_default_context().load_verify_locations(cafile=file)
        except ssl.SSLError:
            raise Refused(f"--ca {file}: it holds no certificate in PEM") from None
    folder = Path(options.junit).resolve().parent
    if Path(options.junit).is_dir() or not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise Refused(f"--junit {options.junit}: no file can be written there")
    return site


def ssh_config_of(options: argparse.Namespace) -> Path | None:
    """Return the ssh configuration that was given, or that of the lab whose site it is, or None.

    Raises:
        Refused: a lab's, and you may not read it.
    """
    if options.ssh_config:
        return Path(options.ssh_config).resolve()
    beside = Path(options.site).resolve().parent / "ssh"
    if not (beside / "config").is_file():
        return None
    if not os.access(beside / "id_ed25519", os.R_OK):
        raise Refused(f"{beside} is the lab's and its key for root: type  sudo bin/verify {options.site}")
    return beside / "config"


def ssh_config(site: Site, given: Path | None) -> str:
    """Return an ssh configuration: a person's own comes first, and what that leaves open is filled from the fleet.

    Args:
        site: whose hosts are asked.
        given: a configuration in place of ~/.ssh/config.

    Example:
        >>> from saltern.site.load import load_site
        >>> print(ssh_config(load_site("lab/fleets/single"), Path("/tmp/config")))
        Include "/tmp/config"
        Host app1
          HostName 10.77.0.11
          User root
        <BLANKLINE>
    """
    first = [given] if given else [Path("~/.ssh/config").expanduser(), Path("/etc/ssh/ssh_config")]
    lines = [f'Include "{file}"' for file in first]
    for name, entry in site.fleet.hosts.items():
        lines += [f"Host {name}", f"  HostName {entry.address}", "  User root"]
    return "\n".join(lines) + "\n"


@contextmanager
def _arguments(options: argparse.Namespace, site: Site) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        config = Path(folder) / "config"
        config.write_text(ssh_config(site, ssh_config_of(options)))
        words = ["-s", f"--rootdir={REPOSITORY}", f"--config-file={REPOSITORY / 'pyproject.toml'}"]
        words += [f"--site={Path(options.site).resolve()}", f"--ssh-config={config}"]
        words += [f"--junitxml={Path(options.junit).resolve()}", "-o", f"junit_suite_name={site.fleet.name}"]
        words += [f"--ca={Path(file).resolve()}" for file in options.ca] + [f"--host={name}" for name in options.host]
        words += ["--read-only"] if options.read_only else []
        words += ["-k", options.keyword] if options.keyword else []
        yield [*words, str(REPOSITORY / "tests/hosts")]


def verify(options: argparse.Namespace) -> int:
    """Ask, tell what was found, and return the exit code.

    Raises:
        Refused: something was asked wrongly.
        SiteError: the site has errors.
    """
    site, began = checked(options), time.monotonic()
    watcher = Watcher(site)
    hosts = options.host or list(site.fleet.hosts)
    with _arguments(options, site) as words, stage(f"asking {', '.join(hosts)}"):
        ended = pytest.main(words, plugins=[watcher])
    cells = {key: watcher.cells[key] for key in sorted(watcher.cells, key=lambda key: _place(site, *key))}
    for line in [*table(cells), *left_out(cells), *watcher.broken]:
        result(line)
    passed, failed = (sum(cell.passed for cell in cells.values()), sum(len(cell.failed) for cell in cells.values()))
    seconds = f"{time.monotonic() - began:.0f} s"
    result(f"{site.fleet.name}: {passed} passed, {failed} failed in {seconds}; {options.junit} has all of it")
    if ended == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise Refused(f"-k {options.keyword}: no test is called so" if options.keyword else "no host has a role to ask")
    if ended == pytest.ExitCode.INTERRUPTED and not watcher.broken:
        raise Refused("stopped before the end")
    return 0 if ended == pytest.ExitCode.OK and passed and not failed else 1


def _place(site: Site, host: str, role: str) -> tuple[int, int]:
    return list(site.fleet.hosts).index(host), ROLES.index(role)


def main() -> None:
    """Run the command that was typed."""
    options = parser().parse_args()
    try:
        sys.exit(verify(options))
    except (Refused, SiteError) as why:
        print(f"verify: {why}", file=sys.stderr)
        sys.exit(USAGE)


if __name__ == "__main__":
    main()
