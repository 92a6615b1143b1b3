"""Options that say which fleet the host tests and scenarios run on (--ssh-config is testinfra's own)."""

import pytest

SHOWN = 2000  # characters of a failure, at once


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--site", help="the site whose fleet is tested (its fleet.yaml, apps and CA)")
    parser.addoption(
        "--read-only", action="store_true", help="leave out host tests that disturb the fleet (production)"
    )
    parser.addoption("--host", dest="only", action="append", help="host tests of this host only; may be repeated")
    parser.addoption("--ca", action="append", default=[], help="a file with CAs that signed certificates of the edges")
    parser.addoption("--sample", metavar="RELEASE", help="of what is slow only a part, and that on this Debian release")
    parser.addoption("--lab", help="the lab that scenarios may break and mend")


class AtOnce:
    """Tests on a lab take minutes: why one failed is said when it fails, not only at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        crash = getattr(report.longrepr, "reprcrash", None)
        if report.failed and terminal and crash:
            terminal.write_line(f"\n  {crash.path}:{crash.lineno}: {crash.message[:SHOWN]}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--lab"):
        config.pluginmanager.register(AtOnce(config))
