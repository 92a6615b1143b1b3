"""The web host: static files, the app's sandbox, and daemons that come back."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from conftest import reached, salt_call, serving

from saltern.site.apps import App
from saltern.site.links import called_by
from saltern.site.names import owner_of
from saltern.site.site import Site

pytestmark = pytest.mark.role("web")
CERTIFICATE = "--cert /etc/saltern/tls/host.crt --key /etc/saltern/tls/host.key"


@pytest.fixture
def curl(host, site: Site, request: pytest.FixtureRequest):
    """Ask nginx of this web host, from one of its edges; as another host, without a certificate, when told so."""
    edges, port = site.fleet.with_role("edge"), site.settings.web.port
    if not edges or not site.apps:
        pytest.skip("the site has no edge or no app, so nobody may ask")
    listen = host.check_output(f"ss -Hltn 'sport = :{port}' | awk '{{print $4}}' | head -1")
    name = f"{host.fleet_id}.{site.fleet.domain}"

    def ask(options: str, path: str, asking: str = "", certificate: str = CERTIFICATE, scheme: str = "https"):
        asker = asking or (host.fleet_id if host.fleet_id in edges else edges[0])
        place = f"--cacert /etc/saltern/tls/ca.crt --connect-to ::{listen}"
        return reached(request.config, asker).run(
            f"curl -s -m 5 {certificate} {place} {options} {scheme}://{name}:{port}{path}"
        )

    return ask


def test_nginx_serves_an_edge_and_nobody_else(host, apps: dict[str, App], curl) -> None:
    """Whoever can reach it, over loopback too, must show an edge's certificate; root alone can read one."""
    asked = f"-o /dev/null -w %{{http_code}} -H 'Host: {next(iter(apps.values())).hostnames[0]}'"
    assert curl(asked, "/").stdout not in ("000", "400", "403", "421")
    assert curl(asked, "/", host.fleet_id, certificate="").stdout == "000"
    assert curl(asked, "/", host.fleet_id, certificate="", scheme="http").stdout == "000"
    if "edge" not in host.roles:
        assert curl(asked, "/", host.fleet_id).stdout == "403"
    assert host.check_output("stat -c '%U %a' /etc/saltern/tls/host.key") == "root 600"
    assert curl(f"--tls-max 1.2 {asked}", "/").stdout == "000"


HASHED = r"\.[0-9a-f]{12}\.[^./]+"  # as Django's ManifestStaticFilesStorage puts it into a name


def test_static_files_come_from_nginx_and_may_be_kept_for_ever(apps: dict[str, App], host, curl) -> None:
    """One that is named by its content, and one that is not; an app may have only one of the kinds, or neither."""
    for app, settings in apps.items():
        listed = f"cd /srv/apps/{app}/static && find . -type f -size +0 -name '*.*' -printf '%P\\n' | sort"
        found = [path for path in host.check_output(listed).split("\n") if re.fullmatch(r"[\w./-]+", path)]
        hashed = [path for path in found if re.search(f"{HASHED}$", path)]
        plain = [path for path in found if path not in hashed]
        for path in [*hashed[:1], *plain[:1]]:
            headers = curl(f"-I -H 'Host: {settings.hostnames[0]}'", f"{settings.static_url}{path}").stdout
            assert "200" in headers.splitlines()[0], path
            assert ("immutable" in headers) == (path in hashed), path


def test_the_app_runs_the_release_that_is_current(host, apps: dict[str, App]) -> None:
    for app, settings in apps.items():
        if settings.version_path is None:
            continue
        release = serving(host, app)
        asked = f"curl -s --unix-socket /run/apps/{app}/{release}.sock -H 'Host: {settings.hostnames[0]}'"
        assert release in host.check_output(f"{asked} http://x{settings.version_path}"), app


def test_a_wrong_host_name_is_refused_behind_the_edge_too(curl) -> None:
    assert curl("-o /dev/null -w %{http_code} -H 'Host: stranger.example'", "/").stdout == "421"


@pytest.mark.disturbs  # a line in the ledger
def test_djangos_own_check_runs_in_the_release_that_serves(host, apps: dict[str, App]) -> None:
    """As `salt-call django.manage APP check` runs it, as the web process. What it warns of is the app's own affair."""
    for app in apps:
        done = salt_call(host, f"django.manage {app} 'check --fail-level ERROR'")
        assert done.rc == 0, done.stderr
        found = json.loads(done.stdout)["local"]
        assert found["exit_code"] == 0, found["output"]
        assert found["release"] == serving(host, app)
        line = json.loads(host.check_output(f"tail -1 /srv/apps/{app}/ledger.jsonl"))
        assert (line["command"], line["result"]) == ("check --fail-level ...", "exit code 0")


def test_no_process_of_an_app_knows_the_role_that_owns_its_database(host, apps: dict[str, App]) -> None:
    for app, settings in apps.items():
        owner = re.compile(rf"\b{owner_of(str(settings.database))}(__2)?:")  # with a password behind it
        for pid in host.check_output(f"pgrep -u {settings.user}").split():
            environment = host.check_output(f"tr '\\0' '\\n' < /proc/{pid}/environ")
            assert "DATABASE_URL=" in environment and not owner.search(environment), app


def main_pid(host, unit: str) -> int:
    return int(host.check_output(f"systemctl show -P MainPID '{unit}'"))


def unit_of(host, app: str) -> str:
    return f"app-{app}@{serving(host, app)}.service"


AS_UNIT = """
import os, sys
with open(f"/proc/{sys.argv[1]}/environ") as file:
    own = dict(one.split("=", 1) for one in file.read().split(chr(0)) if one)
os.execve("/usr/bin/nsenter", sys.argv[2:], {"PATH": os.environ["PATH"], **own})
"""


def inside(host, unit: str, user: str) -> str:
    """The beginning of a command that runs as an app's process of this unit: in its namespaces, with its rights and
    environment."""
    pid = main_pid(host, unit)
    assert host.check_output(f"stat -c %U /proc/{pid}") == user
    argv = ["nsenter", "-t", str(pid), "-m", "--"]
    argv += ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return f"/usr/bin/python3 -c {shlex.quote(AS_UNIT)} {pid} {shlex.join(argv)}"


def test_the_app_can_change_nothing_but_its_own_data(host, apps: dict[str, App]) -> None:
    """In the app's own namespaces and with its rights, as its unit has them."""
    for app, settings in apps.items():
        become = inside(host, unit_of(host, app), str(settings.user))
        for place in (f"/srv/apps/{app}/x", f"/srv/apps/{app}/releases/x", "/etc/x", "/usr/x", "/root/x", "/var/lib/x"):
            assert host.run(f"{become} touch {place}").rc != 0, place
        assert host.run(f"{become} sh -c 'touch /var/lib/apps/{app}/probe && rm /var/lib/apps/{app}/probe'").rc == 0
        assert host.run(f"{become} cat /srv/apps/{app}/releases/{serving(host, app)}/env").rc != 0


PROBE = """
import json, os, socket, sys
try:
    import psycopg
except ImportError:
    import psycopg2 as psycopg
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


def belongings(host, app: str, settings: App) -> tuple[list[str], list[str], list[str]]:
    """Places, sockets and databases of an app: what its own processes reach, and nobody else's."""
    release, home = serving(host, app), f"/srv/apps/{app}/releases"
    places = [home, f"{home}/{release}/src", f"{home}/{release}/manifest.json", f"/var/lib/apps/{app}"]
    places += [f"{home}/{release}/src/{name}" for name in settings.files]
    return places, [f"/run/apps/{app}/{release}.sock"], [str(settings.database)]


def test_an_app_reaches_what_is_its_own_and_nothing_of_another(host, apps: dict[str, App]) -> None:
    """With an app's own user, namespaces, environment and password; its own things are the probe's proof."""
    if len(apps) < 2:
        pytest.skip("isolation needs two apps, and this site has one")
    for app, settings in apps.items():
        become = inside(host, unit_of(host, app), str(settings.user))
        python = f"/srv/apps/{app}/releases/{serving(host, app)}/venv/bin/python"
        for other in apps:
            arguments = shlex.join([python, "-c", PROBE, json.dumps(belongings(host, other, apps[other]))])
            found = json.loads(host.check_output(f"{become} {arguments}"))
            assert len(found) >= 6
            if other == app:
                assert set(found.values()) == {"reached"}, found
            else:
                assert "reached" not in found.values(), found
                assert all(re.search("(?i)permission|pg_hba|FileNotFound", said) for said in found.values()), found


def test_the_bill_of_materials_is_what_is_installed(host, apps: dict[str, App]) -> None:
    listing = "from importlib.metadata import distributions as d; print(*(f'{x.name}=={x.version}' for x in d()))"
    for app in apps:
        home = f"/srv/apps/{app}/releases/{serving(host, app)}"
        bill = json.loads(host.check_output(f"cat {home}/bom.json"))
        told = {f"{one['name']}=={one['version']}" for one in bill["components"]}
        installed = host.check_output(f"{home}/venv/bin/python -I -c {shlex.quote(listing)}").split()
        assert told == {
            f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"
            for name, _, version in (one.partition("==") for one in installed)
        }
        assert len(told) > 3 and bill["metadata"]["component"]["name"] == app


def test_the_sandboxes_score_well(host, apps: dict[str, App]) -> None:
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
CONNECTS = (r"/run/systemd/journal/dev-log",)
CONNECTS_OUTSIDE = (r"/run/(dbus|systemd|postgresql|ssh-unix-local|udev|user|nscd|chrony|uuidd)/.*", r"@.*")


def links(site: Site, host: str, app: str) -> list[str]:
    """What the links declare and the app's file opens; the rest of the network is the business of egress."""
    ports = [service.port(site.settings) for _, service in called_by(site, host, site.apps[app])]
    openings = [one for one in site.apps[app].egress if one.network is not None]
    opened = [port for one in openings for port in one.ports or []]
    every = [r"\d+"] if any(one.ports is None for one in openings) else []
    return [rf"[0-9a-f.:]+:{port}" for port in (*ports, *opened, *every)]


CANARIES = {"/etc/walk-secret": "echo", "/var/lib/walk/secret": "echo", "/srv/apps/{other}/walk.lock": "echo"}


@pytest.mark.disturbs
def test_an_apps_user_finds_nothing_of_others_to_read_write_lock_or_connect_to(host, site: Site) -> None:
    """Each app's user in each of its units and outside, and who installs its releases; canaries prove the search."""
    users: dict[str, int] = {}
    apps = site.apps
    for app, settings in apps.items():
        user = str(settings.user)
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
    walk = f"/opt/saltern/salt/bin/python -c {script} {shlex.quote(json.dumps(users))}"
    try:
        host.check_output(f"{made}; chmod 755 /var/lib/walk")
        found = json.loads(host.check_output(walk))
    finally:
        host.check_output(f"rm -rf /var/lib/walk {' '.join(canaries)}")
    seen, strange = set(), {}
    for who, lists in found.items():
        user, _, where = who.partition(" ")
        app = next(one for one in apps if user in (apps[one].user, f"pkg-{one}"))
        contained = where != "outside"
        own = (
            rf"/(srv/apps|var/lib/apps|run/apps)/{app}/(releases/.*|media.*|[^/]+\.sock)?",
            rf"/var/lib/apps/{app}(/.*)?",
        )
        own = (*own, rf"/run/apps/{app}", rf"/srv/apps/{app}/media")
        allowed = {
            "reads": (*own, *DEBIANS_OWN, r"/run/systemd/journal/.*", *(() if contained else OUTSIDE_TOO), r"/tmp/.*"),
            "writes": (*own, *(WRITES if contained else WRITES_OUTSIDE)),
            "connects": (
                *own,
                *links(site, host.fleet_id, app),
                *(CONNECTS if contained else CONNECTS_OUTSIDE),
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
