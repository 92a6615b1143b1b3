"""The web host: static files, the app's sandbox, and daemons that come back."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

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


# What a process of an app may find on its host besides files of Debian's packages and its own, by why. Whoever brings
# something new either shuts it or declares it here.
DEBIANS_OWN = (
    # written by Debian's installation and tools, or by role base as every program's settings; no secret by design
    r"/etc/(passwd|group|shells|hosts(\.allow|\.deny)?|host(name|id)|machine-id|resolv\.conf|nsswitch\.conf|fstab|motd|issue(\.net)?"
    r"|environment|inputrc|profile|networks|timezone|localtime|locale\.(conf|gen)|ld\.so\.cache|mtab|adjtime|\.updated|\.pwd\.lock"
    r"|ca-certificates\.conf|sub[ug]id|(passwd|group|sub[ug]id)-|(at|cron)\.allow|adduser\.conf|login\.defs)",
    r"/etc/(aide|lynis|apparmor\.d|audit|default|dpkg|kernel|logrotate\.d|modprobe\.d|needrestart|pam\.d|profile\.d|python3|security"
    r"|ssl/certs|sysctl\.d|modules-load\.d|vim|bash_completion\.d|rc\d\.d|init\.d|alternatives|ldap|udev|postgresql-common)/.*",
    r"/var/(\.updated|www/html/.*|cache/(apt|cracklib|debconf|fontconfig|man|ldconfig|apparmor)/.*)",
    r"/var/lib/(apt|dpkg|pam|python|ucf|shells\.state|haproxy/dev/log|sgml-base|xml-core|misc|aide)(/.*)?",
    r"/etc/saltern/tls/(ca|host)\.crt",  # certificates are shown to whoever connects
)
OUTSIDE_TOO = (
    # where no process of an app ever runs: its units do not show these
    r"/etc/(apt|ssh|systemd|tmpfiles\.d|haproxy|sudoers\.d|postgresql/\d+/\w+)/.*|/etc/(pip|rsyslog|logrotate)\.conf|/etc/pki/.*",
    r"/opt/saltern/salt-.*|/srv/saltern/(?!site/secrets).*|/root/\.(bashrc|profile)|/tmp/.*|/var/tmp/.*|/home/.*",
    r"/run/(?!apps|web|saltern/).*|/var/log/(alternatives\.log|dpkg\.log|apt/.*|lastlog|wtmp|btmp|faillog|journal/.*|README)",
    r"/var/lib/saltern/workshops/\.python/.*",  # Debian's pip, by which all builds fetch
    r"/var/lib/systemd/.*|/var/backups/.*|/var/spool/.*|/var/lib/(chrony|logrotate|private|NetworkManager)/.*",
)
WRITES = (r"/dev/shm", r"/tmp(/.*)?", r"/var/tmp(/.*)?")
WRITES_OUTSIDE = (*WRITES, r"/dev/(mqueue|fuse|net/tun|kvm)", r"/run/lock", r"/dev/log")
CONNECTS = (r"/run/systemd/(notify|journal/.*)",)
CONNECTS_OUTSIDE = (*CONNECTS, r"/run/(dbus|systemd|postgresql|ssh-unix-local|udev|user|nscd|chrony|uuidd)/.*", r"@.*")
LINKS = r"[0-9a-f.:]+:(5432|6379|638\d)"  # what links declare; the rest of the network is the business of egress
CANARIES = {"/etc/walk-secret": "echo", "/var/lib/walk/secret": "echo", "/srv/apps/{other}/walk.lock": "echo"}


@pytest.mark.disturbs
def test_an_apps_user_finds_nothing_of_others_to_read_write_lock_or_connect_to(host, apps: dict) -> None:
    """Each app's user in each of its units and outside, and who installs its releases; canaries prove the search."""
    users: dict[str, int] = {}
    for app, settings in apps.items():
        user = settings.get("user", f"app-{app}")
        units = host.check_output(
            f"systemctl list-units --state=running --plain --no-legend 'app-{app}@*' 'app-{app}-*@*'"
        )
        for unit in (line.split()[0] for line in units.splitlines()):
            if host.check_output(f"systemctl show -P User '{unit}'") == user:
                users[f"{user} {unit}"] = main_pid(host, unit)
        users |= {f"{user} outside": 0, f"pkg-{app} outside": 0}
    canaries = [path.format(other=next(iter(apps))) for path in CANARIES]
    made = "; ".join(f"mkdir -p {Path(path).parent}; echo x > {path}; chmod 644 {path}" for path in canaries)
    script = shlex.quote(Path(__file__).with_name("walk.py").read_text())
    walk = f"/opt/saltern/salt/bin/python -c {script} {shlex.quote(json.dumps(users))}".replace("%", "%%")
    try:
        host.check_output(f"{made}; chmod 755 /var/lib/walk")
        found = json.loads(host.check_output(walk))
    finally:
        host.check_output(f"rm -rf /var/lib/walk {' '.join(canaries)}")
    seen, strange = set(), {}
    for who, lists in found.items():
        user, _, where = who.partition(" ")
        app = next((one for one in apps if user in (apps[one].get("user", f"app-{one}"), f"pkg-{one}")), None)
        inside = where != "outside"
        own = (
            rf"/(srv/apps|var/lib/apps|run/apps)/{app}/(releases/.*|media.*|[^/]+\.sock)?",
            rf"/var/lib/apps/{app}(/.*)?",
        )
        own = (*own, rf"/run/apps/{app}", rf"/srv/apps/{app}/media")
        allowed = {
            "reads": (*own, *DEBIANS_OWN, r"/run/systemd/journal/.*", *(() if inside else OUTSIDE_TOO), r"/tmp/.*"),
            "writes": (*own, *(WRITES if inside else WRITES_OUTSIDE)),
            "connects": (
                *own,
                LINKS,
                *(CONNECTS if inside else CONNECTS_OUTSIDE),
                *([r".*:\d+"] if user[:4] == "pkg-" else []),
            ),
        }
        for kind, paths in lists.items():
            odd = [path for path in paths if not any(re.fullmatch(one, path) for one in allowed[kind])]
            seen |= set(odd) & set(canaries)
            if left := sorted(set(odd) - set(canaries)):
                strange[f"{who} {kind}"] = left[:20]
    assert strange == {}
    assert seen == set(canaries), "a world-readable secret or lock was not found, so this proves nothing"
