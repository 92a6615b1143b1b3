"""Host tests run on any fleet, over ssh; bin/verify runs them. All that they ask for is taken from the site.

Which hosts a test runs on comes from the fleet file, so an unreachable host fails; it does not drop out.
"""

from __future__ import annotations

import ipaddress
import shlex
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import testinfra

from saltern.site.apps import App
from saltern.site.fleet import Fleet
from saltern.site.load import load_site
from saltern.site.site import Site

CONNECTIONS = pytest.StashKey[Path]()
SITE = pytest.StashKey[Site]()
REACHED = pytest.StashKey[dict]()
CONNECT_SECONDS = 10
CA_ON_HOST = "/etc/saltern/tls/ca.crt"


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--site"):
        config.stash[SITE] = load_site(config.getoption("--site"))
    config.stash[REACHED] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" not in metafunc.fixturenames:
        return
    only = metafunc.config.getoption("only")
    marker = metafunc.definition.get_closest_marker("role")
    chosen = [
        name
        for name, entry in metafunc.config.stash[SITE].fleet.hosts.items()
        if (marker is None or marker.args[0] in entry.roles) and (not only or name in only)
    ]
    metafunc.parametrize("host", chosen, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="--read-only: this test writes a row, ends a process or reboots")
    hosts = config.stash[SITE].fleet.hosts
    about = {item: getattr(item, "callspec", None) for item in items}
    items[:] = [item for item in items if about[item] is None or about[item].params.get("host") in hosts]
    for item in items:
        if config.getoption("--read-only") and item.get_closest_marker("disturbs"):
            item.add_marker(skip)
        if about[item]:  # for bin/verify's table, and the report that it writes
            role = item.get_closest_marker("role").args[0]
            item.user_properties += [("host", about[item].params["host"]), ("role", role)]


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """All commands to a host share one connection, which is closed at the end: each login costs 0.3 s."""
    with tempfile.TemporaryDirectory(prefix="ssh-") as folder:
        session.config.stash[CONNECTIONS] = Path(folder)
        try:
            return (yield)
        finally:
            for socket in Path(folder).iterdir():
                subprocess.run(["ssh", "-S", socket, "-O", "exit", socket.name], capture_output=True, check=False)


def ssh_argv(config: pytest.Config, *options: str) -> list[str]:
    """The beginning of an ssh command by the person's own configuration, over a connection of its own."""
    given = config.getoption("--ssh-config")
    return ["ssh", *(["-F", given] if given else []), "-o", "BatchMode=yes", "-o", "ControlPath=none", *options]


def ssh_says(config: pytest.Config, host_id: str) -> dict[str, str]:
    """What ssh's configuration says of a host: hostname, user, proxyjump ..."""
    asked = subprocess.run([*ssh_argv(config), "-G", host_id], capture_output=True, text=True, check=False)
    return dict(reversed([line.partition(" ")[::2] for line in asked.stdout.splitlines()]))


def _connected(config: pytest.Config, host_id: str):
    """A host as testinfra has it; or why it is not reached, as text."""
    said = ssh_says(config, host_id)
    root = said.get("user") == "root"
    timeout = f"ConnectTimeout={CONNECT_SECONDS}"
    asked = [*ssh_argv(config, "-o", timeout), host_id, f"echo $SSH_CONNECTION; {'true' if root else 'sudo -n true'}"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=3 * CONNECT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"ssh {host_id} does not answer within {3 * CONNECT_SECONDS} s"
    if done.returncode:
        return f"ssh {host_id} ends with {done.returncode}: {(done.stderr.strip() or done.stdout.strip())[-300:]}"
    found = testinfra.get_host(
        f"ssh://{host_id}",
        ssh_config=config.getoption("--ssh-config"),
        controlpath=config.stash[CONNECTIONS] / host_id,
        ssh_extra_args="-o BatchMode=yes",
        sudo=not root,
    )
    found.fleet_id = host_id
    entry = config.stash[SITE].fleet.hosts[host_id]
    found.addr_of_fleet, found.roles = entry.address, entry.roles
    found.is_root, found.sees_us_as = root, done.stdout.split()[0]
    # Where this machine finds it: a name or an address of ssh's, which behind a translation is not that of the fleet.
    named = said.get("hostname", host_id)
    found.through_another = any(said.get(key, "none") != "none" for key in ("proxyjump", "proxycommand"))
    found.addr_from_here = found.addr_of_fleet if found.through_another or named == host_id else named
    return found


def asked_once(config: pytest.Config, host_id: str):
    """A host of the fleet by its id, over ssh; or, as text, why it is not reached."""
    known = config.stash[REACHED]
    if host_id not in known:
        known[host_id] = _connected(config, host_id)
    return known[host_id]


def reached(config: pytest.Config, host_id: str):
    """A host of the fleet by its id, over ssh; one that is not reached is asked once and fails each test at once."""
    found = asked_once(config, host_id)
    if isinstance(found, str):
        pytest.fail(f"not reached: {found}", pytrace=False)
    return found


# Edges ask web hosts every 2 s, and an app may have to wait for its database: what this host's daemons do is not all.
SERVED_WITHIN = 60
NOT_SERVED_AGAIN = """
import csv, socket, sys, time
end = time.monotonic() + float(sys.argv[1])
while True:
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect("/run/haproxy/admin.sock")
        admin.sendall(b"show stat -1 4 -1\\n")
        said = admin.makefile().read()
    rows = [row for row in csv.DictReader(said.lstrip("# ").splitlines()) if row["pxname"].startswith("app_")]
    # One that was not asked yet is said to be up, too.
    good = [row["status"].startswith("MAINT") or row["check_status"].lstrip("* ").startswith("L7OK") for row in rows]
    down = [row["pxname"] + "/" + row["svname"] for row, one in zip(rows, good) if not one]
    if not down or time.monotonic() > end:
        break
    time.sleep(0.2)
print(*down)
"""


@pytest.fixture
def served_again(request: pytest.FixtureRequest, site: Site) -> Callable[[], None]:
    """Wait, after daemons were killed, until every edge sees every web host serve again; fail where one does not."""

    def wait() -> None:
        for host_id in site.fleet.with_role("edge"):
            edge = asked_once(request.config, host_id)
            if not isinstance(edge, str):
                script = shlex.join(["python3", "-c", NOT_SERVED_AGAIN, str(SERVED_WITHIN)])
                assert edge.check_output(script) == "", f"{host_id}: not served again"

    return wait


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest):
    """A host of the fleet with the role that the test is marked with."""
    return reached(request.config, request.param)


@pytest.fixture
def from_here(host):
    """The host's address as this machine sees it; without a way there of its own, what is asked so is left out."""
    if host.through_another:
        pytest.skip(f"this machine reaches {host.fleet_id} through another one only, so it sees no port of it")
    return host.addr_from_here


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest) -> Site:
    """The site, checked."""
    return request.config.stash[SITE]


@pytest.fixture(scope="session")
def fleet(site: Site) -> Fleet:
    """The site's hosts."""
    return site.fleet


@pytest.fixture(scope="session")
def apps(site: Site) -> dict[str, App]:
    """The site's apps by name, all defaults filled in."""
    return site.apps


@pytest.fixture
def tls(request: pytest.FixtureRequest, host) -> ssl.SSLContext:
    """A client that trusts the fleet's CA, as an edge has it, and this machine's, for a team's own certificate."""
    context = ssl.create_default_context()
    for file in request.config.getoption("--ca"):
        context.load_verify_locations(cafile=file)
    context.load_verify_locations(cadata=host.check_output(f"cat {CA_ON_HOST}"))
    return context


def within(address: str, sources: list[str]) -> bool:
    """Whether a firewall's sources, addresses and networks, have this address among them; none means anyone."""
    one = ipaddress.ip_address(address)
    return not sources or any(one in ipaddress.ip_network(source, strict=False) for source in sources)


def salt_call(host, words: str, before: str = "true"):
    """Run salt-call where the host's settings for it are: a minion's everywhere, else in the repository's root."""
    folder = host.check_output("systemctl show -P WorkingDirectory saltern-certificates.service").lstrip("!") or "/"
    if "minion" not in host.roles and not host.file(f"{folder}/Saltfile").exists:
        pytest.skip(f"{host.fleet_id} is served by salt-ssh: it has no states of its own")
    return host.run(f"{before}; cd {shlex.quote(folder)} && salt-call --out=json {words}")


def serving(host, app: str) -> str:
    """The id of the release that serves on a web host."""
    return host.check_output(f"basename $(readlink /srv/apps/{app}/current.sock) .sock")
