"""Nobody's code but ours runs as root: what hostile packages and hostile source directories get on a builder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import change_app

from lab.host import Host
from lab.lab import Lab

EVIL = "/srv/evil"
BUILDS = "/var/lib/saltern/builds"
# A package that builds itself, with Python's own library alone, and puts into its wheel what it has seen.
BACKEND = r"""
import glob, json, os, socket, zipfile

def look(path):
    try:
        return bool(os.listdir(path)) if os.path.isdir(path) else bool(open(path, "rb").read(1)) or True
    except OSError:
        return False

def write(path):
    try:
        open(path, "w").close()
    except OSError:
        return False
    os.unlink(path)
    return True

def reach(address):
    try:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        with socket.socket(family) as one:
            one.settimeout(3)
            one.connect(address)
        return True
    except OSError:
        return False

def build_wheel(folder, *rest):
    seen = {
        "uid": os.getuid(),
        "read": [path for path in READ if look(path)],
        "write": [path for path in WRITE if write(path)],
        "reach": [str(one) for one in REACH if reach(tuple(one) if isinstance(one, list) else one)],
        "processes": sorted(path for path in glob.glob("/proc/[0-9]*") if os.stat(path).st_uid != os.getuid()),
        "environment": sorted(os.environ),
        "inherited": [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")
                      and "saltern/builds" in os.readlink(f"/proc/self/fd/{fd}")],
    }
    EXTRA
    name = "evil-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("evil.json", json.dumps(seen))
        wheel.writestr("evil-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
        wheel.writestr("evil-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("evil-1.0.dist-info/RECORD", "")
    return name
"""
READ = [
    "/srv/saltern", "/srv/saltern/site", "/srv/saltern/site/secrets", "/etc/shadow", "/etc/saltern", "/root", "/home",
    "/etc/saltern/tls/host.key", BUILDS, f"{BUILDS}/bugsink", "/var/lib/saltern/workshops/bugsink", "/srv/apps",
    "/var/lib/apps", "/etc/pip.conf", "/proc/1/environ", "/var/lib/postgresql", "/var/log", EVIL,
]  # fmt: skip
WRITE = ["/x", "/etc/x", "/usr/x", "/var/lib/x", "/run/x", f"{EVIL}/x", f"{BUILDS}/x"]
REACH = [
    ["127.0.0.1", 22], ["127.0.0.1", 5432], ["127.0.0.1", 6379], ["127.0.0.1", 443], "/run/postgresql/.s.PGSQL.5432",
    "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/notify",
]  # fmt: skip
# Makes the package, and a lock that names it beside the demo's own packages, whose wheels stand for the index.
MAKE = """
import hashlib, io, json, pathlib, sys, tarfile
index, app, backend = pathlib.Path("/srv/evil/index"), pathlib.Path("/srv/evil/app"), sys.stdin.read()
index.mkdir(parents=True, exist_ok=True)
app.mkdir(exist_ok=True)
files = {"pyproject.toml": '[build-system]\\nrequires = []\\nbuild-backend = "backend"\\nbackend-path = ["."]\\n'}
files |= {"backend.py": backend, "PKG-INFO": "Metadata-Version: 2.1\\nName: evil\\nVersion: 1.0\\n"}
with tarfile.open(index / "evil-1.0.tar.gz", "w:gz") as tar:
    for name, text in files.items():
        member = tarfile.TarInfo(f"evil-1.0/{name}")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))
wheel = next(pathlib.Path("/var/lib/saltern/builds/demo/current/wheels").glob("gunicorn-*.whl"), None)
wheel = wheel or next(index.glob("gunicorn-*.whl"))
(index / wheel.name).write_bytes(wheel.read_bytes())
lock = [("evil", "1.0", index / "evil-1.0.tar.gz"), ("gunicorn", wheel.name.split("-")[1], index / wheel.name)]
lock = [f"{name}=={v} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for name, v, path in lock]
needs = "packaging"
(app / "requirements.txt").write_text("\\n".join(lock) + "\\n")
(app / "manage.py").write_text(f"# {hashlib.sha256(backend.encode()).hexdigest()}\\n")
"""
PIP = ["PIP_NO_INDEX=1", f"PIP_FIND_LINKS={EVIL}/index"]


def run(host: Host, command: str, stdin: str = "") -> str:
    done = host.execute(["sh", "-c", command], capture=True, cwd="/srv/saltern", **({"stdin": stdin} if stdin else {}))
    return done.stdout + done.stderr


def salt(host: Host, function: str, *env: str) -> str:
    return run(host, f"env {' '.join([*PIP, *env])} salt-call --out=json {function} demo 2>&1")


@pytest.fixture
def evil(lab: Lab, one: Host, demo: Path) -> Iterator[Path]:
    """The demo's file, which names the evil source; the true one is applied at the module's end."""
    change_app(demo, {"source": {"directory": f"{EVIL}/app"}})
    yield demo
    run(one, f"rm -rf {EVIL}; userdel -r evil-alice")


def make_package(host: Host, extra: str = "pass") -> None:
    lists = f"READ, WRITE, REACH = {READ!r}, {WRITE!r}, {REACH!r}\n"
    backend = lists + BACKEND.replace("EXTRA", extra)
    script = f"cat > /tmp/make.py <<'PY'\n{MAKE}\nPY\ncat > /tmp/backend.py <<'PY'\n{backend}\nPY\n"
    done = host.execute(["sh", "-ec", script + "python3 /tmp/make.py < /tmp/backend.py"], capture=True)
    assert done.returncode == 0, done.stderr


def test_a_package_that_is_built_sees_itself_and_nothing_else(one: Host, evil: Path) -> None:
    make_package(one)
    made = salt(one, "build.make")
    assert '"id"' in made, made
    seen = json.loads(run(one, f"python3 -m zipfile -e {BUILDS}/demo/current/wheels/evil-1.0-*.whl /tmp/evil-out && "
                               "cat /tmp/evil-out/evil.json; rm -rf /tmp/evil-out"))  # fmt: skip
    assert seen["uid"] == int(run(one, "id -u build-demo")) != 0
    assert seen["read"] == [] and seen["write"] == [] and seen["reach"] == [] and seen["processes"] == []
    assert seen["inherited"] == [] and not [name for name in seen["environment"] if "INDEX_URL" in name]


BREAKS = {
    "the disk": ("[open(f'f{n}', 'wb').write(bytes(1 << 20)) for n in range(2000)]", "MiB of the disk"),
    "one file": ("open('f', 'wb').truncate(1 << 40)", "File too large"),
    "the result": ("os.symlink('/etc/shadow', os.path.dirname(os.environ['HOME']) + '/made/x.whl')", "taken over"),
}


@pytest.mark.slow("bookworm")
@pytest.mark.parametrize("what", BREAKS)
def test_a_package_cannot_use_up(one: Host, evil: Path, lab: Lab, what: str) -> None:
    extra, said = BREAKS[what]
    settings = lab.site / "settings.yaml"
    before = settings.read_text()
    serving = run(one, f"readlink {BUILDS}/demo/current")
    settings.write_text(before + "\nbuilder:\n  disk_max_mb: 256\n")
    try:
        make_package(one, extra)
        made = salt(one, "build.make")
    finally:
        settings.write_text(before)
    assert said in made, made
    assert run(one, f"readlink {BUILDS}/demo/current") == serving
    assert run(one, "find /var/lib/saltern/workshops/demo -name 'f*' -type f; pgrep -u build-demo") == ""


# What a source's owner may write into it. Each would leave a file that says who ran it.
TRAPS = """
set -e
id evil-alice >/dev/null 2>&1 || useradd --create-home --shell /bin/sh evil-alice
rm -rf /srv/evil; mkdir -p /srv/evil/ran; chmod 1777 /srv/evil/ran
install -d -o evil-alice /srv/evil/app
cat > /srv/evil/trap.sh <<'SH'
#!/bin/sh
id -u > /srv/evil/ran/$(id -u)-$$
cat
SH
chmod 755 /srv/evil/trap.sh
runuser -u evil-alice -- sh -ec '
cd /srv/evil/app
git init -q .
echo x > manage.py
echo "gunicorn==27.0.1 --hash=sha256:$(printf %064d 0)" > requirements.txt
git add .
git -c user.name=x -c user.email=x@x commit -q -m x
echo "* filter=evil diff=evil" > .gitattributes
for key in core.fsmonitor filter.evil.clean filter.evil.process diff.evil.command core.pager core.sshCommand; do
    git config $key /srv/evil/trap.sh
done
mkdir hooks; cp /srv/evil/trap.sh hooks/post-index-change; git config core.hooksPath hooks
echo changed > manage.py
'
"""


def test_a_plan_runs_nothing_of_the_source_s_owner_as_root(one: Host, evil: Path) -> None:
    assert run(one, TRAPS) == ""
    told = salt(one, "build.identify")
    assert '"tree"' in told, told
    assert run(one, "find /srv/evil/ran -type f -user root") == "", "the owner's program was run by root"


LEADS = {
    "an index entry behind a link": "mkdir a; echo x > a/shadow; git add . 2>/dev/null; rm -r a; ln -s /etc a",
    "a link to the root": "ln -s /etc/shadow b",
    "links that lead out together": "ln -s . here; ln -s here/../../../etc/shadow b",
    "a lock that is a link": "rm requirements.txt; ln -s /etc/shadow requirements.txt",
    "a name with an escape": "touch \"$(printf 'a\\033[2Jb')\"",
}


@pytest.mark.parametrize("what", LEADS)
def test_a_source_that_leads_out_of_itself_is_refused(one: Host, evil: Path, what: str) -> None:
    own = f"cd {EVIL}/app && {LEADS[what]}"
    quoted = own.replace("'", "'\\''")
    assert run(one, TRAPS) == "" and run(one, f"runuser -u evil-alice -- sh -ec '{quoted}'") == ""
    serving = run(one, f"readlink {BUILDS}/demo/current")
    for function in ("build.identify", "build.make")[: 2 if "entry" in what else 1]:
        told = salt(one, function)
        assert '"tree"' not in told and "source of demo" in told, told
        assert "root:" not in told and "\x1b" not in told
    assert run(one, f"readlink {BUILDS}/demo/current") == serving


def test_no_app_reads_another_s_builds_or_workshop(one: Host) -> None:
    for user in ("app-bugsink", "build-bugsink"):
        for path in (f"{BUILDS}/demo/current/manifest.json", f"{BUILDS}/demo/current/src.tar.gz", f"{BUILDS}/demo",
                     "/var/lib/saltern/workshops/demo", f"{BUILDS}/demo/.lock"):  # fmt: skip
            assert run(one, f"runuser -u {user} -- test -r {path} && echo reads {path}") == "", user
