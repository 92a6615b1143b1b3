"""Options that say which fleet the host tests and scenarios run on (--ssh-config is testinfra's own)."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--site", help="the site whose fleet is tested (its fleet.yaml, apps and CA)")
    parser.addoption(
        "--read-only", action="store_true", help="leave out host tests that disturb the fleet (production)"
    )
    parser.addoption("--sample", metavar="RELEASE", help="of what is slow only a part, and that on this Debian release")
    parser.addoption("--lab", help="the lab that scenarios may break and mend")
