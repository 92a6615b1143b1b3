"""The web host: static files, the app's sandbox, and daemons that come back."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from conftest import reached

pytestmark = pytest.mark.role("web")
REPOSITORY = "/srv/saltern"  # on a server, as docs/servers.md puts it
CERTIFICATE = "--cert /etc/saltern/tls/host.crt --key /etc/saltern/tls/host.key"


@pytest.fixture
def curl(host, fleet: dict, request: pytest.FixtureRequest):
    """Asks nginx of this web host, from one of its edges; as another host, without a certificate, when told so."""
    edges = [name for name, entry in fleet["hosts"].items() if "edge" in entry["roles"]]
    listen = host.check_output("ss -Hltn 'sport = :8080' | awk '{print $4}' | head -1")
    name = f"{host.fleet_id}.{fleet['domain']}"

    def ask(options: str, path: str, asking: str = "", certificate: str = CERTIFICATE, scheme: str = "https"):
        asker = asking or (host.fleet_id if host.fleet_id in edges else edges[0])
        place = f"--cacert /etc/saltern/tls/ca.crt --connect-to ::{listen}"
        return reached(request.config, asker).run(
            f"curl -s -m 5 {certificate} {place} {options} {scheme}://{name}:8080{path}"
        )

    return ask


def test_nginx_serves_an_edge_and_nobody_else(host, fleet: dict, apps: dict, curl) -> None:
    """Whoever can reach it, over loopback too, must show an edge's certificate; root alone can read one."""
    asked = f"-o /dev/null -w %{{http_code}} -H 'Host: {next(iter(apps.values()))['hostnames'][0]}'"
    assert curl(asked, "/").stdout not in ("000", "400", "403", "421")
    assert curl(asked, "/", host.fleet_id, certificate="").stdout == "000"
    assert curl(asked, "/", host.fleet_id, certificate="", scheme="http").stdout == "000"
    if "edge" not in fleet["hosts"][host.fleet_id]["roles"]:
        assert curl(asked, "/", host.fleet_id).stdout == "403"
    assert host.check_output("stat -c '%U %a' /etc/saltern/tls/host.key") == "root 600"
    assert curl(f"--tls-max 1.2 {asked}", "/").stdout == "000"


def test_static_files_come_from_nginx_and_may_be_kept_for_ever(apps: dict, host, curl) -> None:
    for app, settings in apps.items():
        found = host.check_output(f"cd /srv/apps/{app}/static && find . -name '*.css' -printf '%P\\n'").split()
        hashed = [path for path in found if re.search(r"\.[0-9a-f]{12}\.css$", path)]
        plain = [path for path in found if path not in hashed]
        assert hashed or plain, app  # Bugsink does not hash its names
        for path in [*hashed[:1], *plain[:1]]:
            asked = f"{settings.get('static_url', '/static/')}{path}"
            headers = curl(f"-I -H 'Host: {settings['hostnames'][0]}'", asked).stdout
            assert "200" in headers.splitlines()[0]
            assert ("immutable" in headers) == (path in hashed)


def test_the_app_runs_the_release_that_is_current(host, apps: dict) -> None:
    for app, settings in apps.items():
        if settings.get("version_path", "") is None:
            continue
        socket = host.check_output(f"readlink /srv/apps/{app}/current.sock")
        asked = f"curl -s --unix-socket {socket} -H 'Host: {settings['hostnames'][0]}' http://x/-/version"
        answered = json.loads(host.check_output(asked))
        assert answered["release"] in socket
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", answered["commit"])


def test_a_wrong_host_name_is_refused_behind_the_edge_too(curl) -> None:
    assert curl("-o /dev/null -w %{http_code} -H 'Host: stranger.example'", "/").stdout == "421"


@pytest.mark.disturbs  # a line in the ledger
def test_djangos_own_check_for_deployment_finds_nothing(host, apps: dict) -> None:
    """As `salt-call django.manage APP 'check --deploy'` runs it: in the release that serves, as the web process."""
    for app in apps:
        command = f"cd {REPOSITORY} && salt-call --out=json django.manage {app} 'check --deploy --fail-level WARNING'"
        found = json.loads(host.check_output(command))["local"]
        assert found["exit_code"] == 0, found["output"]
        assert found["release"] in host.check_output(f"readlink /srv/apps/{app}/current.sock")
        line = json.loads(host.check_output(f"tail -1 /srv/apps/{app}/ledger.jsonl"))
        assert (line["command"], line["result"]) == ("check --deploy --fail-level ...", "exit code 0")


def test_no_process_of_an_app_knows_the_role_that_owns_its_database(host, apps: dict) -> None:
    for app in apps:
        pids = host.check_output(f"pgrep -u {apps[app].get('user', f'app-{app}')}").split()
        for pid in pids:
            environment = host.check_output(f"tr '\\0' '\\n' < /proc/{pid}/environ")
            assert "DATABASE_URL=" in environment and "_owner" not in environment


def main_pid(host, unit: str) -> int:
    return int(host.check_output(f"systemctl show -P MainPID '{unit}'"))


def unit_of(host, app: str) -> str:
    return host.check_output(f"systemctl list-units --plain --no-legend 'app-{app}@*' | cut -d' ' -f1")


def test_the_app_can_change_nothing_but_its_own_data(host, apps: dict) -> None:
    """In the app's own namespaces and with its rights, as its unit has them."""
    for app in apps:
        pid = main_pid(host, unit_of(host, app))
        owner = host.check_output(f"stat -c %U /proc/{pid}")
        assert owner == f"app-{app}"
        inside = f"nsenter -t {pid} -m -- setpriv --reuid={owner} --regid={owner} --clear-groups"
        for place in (f"/srv/apps/{app}/x", f"/srv/apps/{app}/releases/x", "/etc/x", "/usr/x", "/root/x", "/var/lib/x"):
            assert host.run(f"{inside} touch {place}").rc != 0, place
        assert host.run(f"{inside} sh -c 'touch /var/lib/apps/{app}/probe && rm /var/lib/apps/{app}/probe'").rc == 0
        release = host.check_output(f"ls /srv/apps/{app}/releases").split()[0]
        assert host.run(f"{inside} cat /srv/apps/{app}/releases/{release}/env").rc != 0


PROBE = """
import json, os, socket, sys
import psycopg
places, sockets, databases = json.loads(sys.argv[1])
found = {}
def attempt(what, work):
    try:
        work()
        found[what] = "reached"
    except Exception as error:
        found[what] = f"{type(error).__name__}: {error}"
def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(path)
for place in places:
    attempt(place, lambda: os.listdir(place) if os.path.isdir(place) else open(place).read())
for path in sockets:
    attempt(path, lambda: connect(path))
for name in databases:
    attempt("database " + name, lambda: psycopg.connect(os.environ["DATABASE_URL"], dbname=name).close())
print(json.dumps(found))
"""


def belongings(host, app: str, settings: dict) -> tuple[list[str], list[str], list[str]]:
    """Places, sockets and databases of an app: what its own processes reach, and nobody else's."""
    release = host.check_output(f"basename $(readlink /srv/apps/{app}/current.sock) .sock")
    home = f"/srv/apps/{app}/releases"
    places = [home, f"{home}/{release}/src", f"{home}/{release}/manifest.json", f"/var/lib/apps/{app}"]
    places += [f"{home}/{release}/src/{name}" for name in settings.get("files", {})]
    return places, [f"/run/apps/{app}/{release}.sock"], [settings.get("database", app.replace("-", "_"))]


def test_an_app_reaches_what_is_its_own_and_nothing_of_another(host, apps: dict) -> None:
    """With an app's own user, namespaces, environment and password; its own things are the probe's proof."""
    if len(apps) < 2:
        pytest.skip("isolation needs two apps, and this fleet has one; fleet single has two")
    for app in apps:
        pid, user = main_pid(host, unit_of(host, app)), f"app-{app}"
        release = host.check_output(f"basename $(readlink /srv/apps/{app}/current.sock) .sock")
        home = f"/srv/apps/{app}/releases/{release}"
        inside = f"nsenter -t {pid} -m -- setpriv --reuid={user} --regid={user} --clear-groups {home}/venv/bin/python"
        for other in apps:
            arguments = shlex.join(["-c", PROBE, json.dumps(belongings(host, other, apps[other]))])
            # The app's password goes by its environment: a command line is everybody's.
            script = shlex.quote(f"set -a; . {home}/env; HOME=/var/lib/apps/{app}; exec {inside} {arguments}")
            found = json.loads(host.check_output(f"sh -c {script}".replace("%", "%%")))
            assert len(found) >= 6
            if other == app:
                assert set(found.values()) == {"reached"}, found
            else:
                assert "reached" not in found.values(), found
                assert all(re.search("(?i)permission|pg_hba|FileNotFound", said) for said in found.values()), found


def test_the_bill_of_materials_is_what_is_installed(host, apps: dict) -> None:
    listing = "from importlib.metadata import distributions as d; print(*(f'{x.name}=={x.version}' for x in d()))"
    for app in apps:
        home = f"/srv/apps/{app}/releases/$(basename $(readlink /srv/apps/{app}/current.sock) .sock)"
        bill = json.loads(host.check_output(f"cat {home}/bom.json"))
        told = {f"{one['name']}=={one['version']}" for one in bill["components"]}
        installed = host.check_output(f"{home}/venv/bin/python -I -c {shlex.quote(listing)}").split()
        assert told == {
            f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"
            for name, _, version in (one.partition("==") for one in installed)
        }
        assert len(told) > 3 and bill["metadata"]["component"]["name"] == app


def test_the_sandboxes_score_well(host, apps: dict) -> None:
    for unit, most in [*((unit_of(host, app), 1.5) for app in apps), ("nginx.service", 2.8)]:
        said = host.check_output(f"systemd-analyze security '{unit}' --no-pager")
        assert float(re.findall(r"exposure level for .*: ([\d.]+)", said)[0]) <= most, unit
