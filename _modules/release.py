"""Releases: a build plus an environment, started, checked, and only then given the traffic.

Every function asks the host how things are and does what is missing, so a run that was killed anywhere is finished
by the next one. Which release nginx sends requests to is one symbolic link, /srv/apps/<app>/current.sock; renaming
a new link over it is the switch (trial: 20 switches lost 0 of 42,449 requests; docs/roles/web.md).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import datetime
import getpass
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from salt.exceptions import CommandExecutionError

__func_alias__ = {"list_": "list"}

APPS = Path("/srv/apps")
RUN = Path("/run/apps")
DATA = Path("/var/lib/apps")
UNITS = Path("/etc/systemd/system")
TMPFILES = Path("/etc/tmpfiles.d")
MARK = "# Saltern's role web writes this file."

KEEP_RELEASES = 3  # the active one, the one to go back to, and one more
KEEP_STATIC_DAYS = 30  # static files that no kept release has: pages in browsers' caches may still name them
LONGEST_REQUEST = 30  # seconds; nginx gives up on an answer then, gunicorn waits as long before it kills
START_SECONDS = 60  # until gunicorn must have told systemd that it is ready
GATE_ANSWERS = 3  # good answers in a row before a release gets traffic
GATE_SECONDS = 30  # in which it must have given them
GATE_PAUSE = 0.05  # seconds between two questions
CRASHES = 3  # whole sets of workers that may come and go while a release is asked; a fourth is a crash loop
ANSWER_SECONDS = 5  # a health page that takes longer counts as none
STAGE_SECONDS = 5400  # of holding the deploy lock: installing, and starting Django once (one_off's own limit)
ACTIVATE_SECONDS = 600  # the same: start, gate, and draining and stopping what ran before
UNHURRIED = ("first-start-of-django", "collectstatic")  # one-off commands that hold no lock and hurt no one by waiting
SERVED = ("activated", "repaired", "rolled back")  # results in the ledger of a release that got the traffic

# What every process of an app may do: talk to sockets, write to its own directory, nothing else.
# MemoryDenyWriteExecute is missing on purpose: libraries that make code at run time (numba, some ctypes callbacks)
# are common among Django apps, and it is worth 0.1 of systemd-analyze's points.
SANDBOX = (
    "UMask=0027",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "DevicePolicy=closed",
    "PrivateUsers=yes",
    "PrivateIPC=yes",
    "RemoveIPC=yes",
    "KeyringMode=private",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectControlGroups=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallFilter=@chown",  # gunicorn gives its socket to itself
    "SystemCallErrorNumber=EPERM",
    "Environment=PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1",
)

# Asked of Django once per release: what the release holds cannot change afterwards.
FACTS = """
import json, django
django.setup()
from django.apps import apps
from django.db.migrations.loader import MigrationLoader
disk = MigrationLoader(None).disk_migrations
columns = {}
for model in apps.get_models(include_auto_created=True):
    names = {field.column for field in model._meta.local_concrete_fields}
    columns[model._meta.db_table] = sorted(names | set(columns.get(model._meta.db_table, [])))
print("\\nSALTERN " + json.dumps({
    "django": django.get_version(),
    "static": apps.is_installed("django.contrib.staticfiles"),
    "migrations": sorted([*key, sorted(map(list, m.replaces))] for key, m in disk.items()),
    "additive": sorted(list(key) for key, m in disk.items() if all(map(only_adds, m.operations))),
    "columns": columns,
}))
"""


# --- pure ---------------------------------------------------------------------------------------------------


def release_id(build: str, parts: dict[str, Any]) -> str:
    """Answers the id of the release that a build and what it runs with make.

    Args:
        build: the build's id.
        parts: environment and settings, JSON values; another value anywhere is another release.

    Returns:
        ``<build>-<8 hex digits>``.

    Example:
        >>> release_id("6f1d3c0a9b2e", {"environment": {}})
        '6f1d3c0a9b2e-2fcc3ffb'
    """
    text = json.dumps(parts, sort_keys=True)
    return f"{build}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def environment_file(environment: dict[str, str]) -> str:
    """Writes variables as systemd's EnvironmentFile reads them.

    Args:
        environment: values by name.

    Raises:
        ValueError: a value holds a line break or a null character.

    Example:
        >>> environment_file({"PRICE": '5 $ "net"'})
        'PRICE="5 \\\\$ \\\\"net\\\\""\\n'
    """
    lines = []
    for name in sorted(environment):
        if re.search(r"[\0\r\n]", environment[name]):
            raise ValueError(f"environment variable {name}: one line of text is allowed")
        # The four characters that systemd takes a backslash off in double quotes (env-file.c, SHELL_NEED_ESCAPE).
        escaped = re.sub(r'(["\\`$])', r"\\\1", environment[name])
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def read_environment(text: str) -> dict[str, str]:
    """Reads what ``environment_file`` wrote.

    Args:
        text: the file.

    Example:
        >>> read_environment('PRICE="5 \\\\$"\\n')
        {'PRICE': '5 $'}
    """
    pairs = re.findall(r'^([^=]+)="(.*)"$', text, re.MULTILINE)
    return {name: re.sub(r'\\(["\\`$])', r"\1", value) for name, value in pairs}


def gunicorn_conf(app: str, release: str, settings: dict[str, Any]) -> str:
    """Writes gunicorn's configuration for one release (options as of gunicorn 27).

    Args:
        app: the app's name.
        release: the release's id; its socket is named after it.
        settings: the app's settings from the pillar: wsgi, workers, threads.

    Example:
        >>> "workers = 2" in gunicorn_conf("demo", "x", {"wsgi": "a:b", "workers": 2, "threads": 4})
        True
    """
    return f"""# {MARK.removeprefix("# ")}
wsgi_app = {settings["wsgi"]!r}
bind = {f"unix:{RUN / app / release}.sock"!r}
umask = 0  # the socket's mode only: who may connect is decided by its directory, which is the app's and nginx's
worker_class = "gthread"
workers = {settings["workers"]}
threads = {settings["threads"]}
graceful_timeout = {LONGEST_REQUEST}
worker_tmp_dir = "/dev/shm"  # the workers' heartbeat; on a disk that is busy it would look like a worker that hangs
control_socket_disable = True
proc_name = {f"app-{app}"!r}
accesslog = None  # nginx writes one line per request, and so may the app
# Only nginx can connect, and it overwrites this header; it drops what clients send under the other names.
secure_scheme_headers = {{"X-FORWARDED-PROTO": "https"}}
"""


def unit_text(app: str, settings: dict[str, Any]) -> str:
    """Writes the template unit of an app; its instances are the releases.

    Args:
        app: the app's name.
        settings: the app's settings from the pillar: user, memory_max_mb.

    Example:
        >>> "User=app-demo" in unit_text("demo", {"user": "app-demo", "memory_max_mb": 512, "media_url": None})
        True
    """
    release = APPS / app / "releases" / "%i"
    return "\n".join(
        [
            MARK,
            "[Unit]",
            f"Description={app}, release %i",
            "After=network.target postgresql.service redis-server.service",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            "NotifyAccess=main",
            f"ExecStart={release}/venv/bin/python -m gunicorn --config {release}/gunicorn.conf.py",
            f"WorkingDirectory={release}/src",
            f"EnvironmentFile={release}/env",
            *_identity(app, settings),
            f"ReadWritePaths={RUN / app} {_writable(app, settings)}",
            *SANDBOX,
            f"MemoryMax={settings['memory_max_mb']}M",
            "TasksMax=512",
            "LimitNOFILE=65536",
            "OOMPolicy=continue",
            f"SyslogIdentifier=app-{app}",
            "Restart=always",
            "RestartSec=1",
            f"TimeoutStartSec={START_SECONDS}",
            # gunicorn ends what is in flight first; systemd must not be faster than that.
            f"TimeoutStopSec={LONGEST_REQUEST + 15}",
            "KillMode=mixed",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def manage_arguments(app: str, release: str, settings: dict[str, Any]) -> list[str]:
    """Answers what the release's Python is given to run a management command, before the command's own name.

    Args:
        app: the app's name.
        release: the release's id.
        settings: the app's settings from the pillar: manage.

    Example:
        >>> manage_arguments("demo", "x", {"manage": "python -m django"})
        ['-m', 'django']
        >>> manage_arguments("bugsink", "x", {"manage": "bugsink-manage"})
        ['/srv/apps/bugsink/releases/x/venv/bin/bugsink-manage']
    """
    first, *rest = settings["manage"].split()
    return rest if first == "python" else [str(APPS / app / "releases" / release / "venv/bin" / first)]


def tmpfiles_text(app: str, settings: dict[str, Any]) -> str:
    """Writes the tmpfiles.d entry that makes the directory of an app's sockets at boot.

    Args:
        app: the app's name.
        settings: the app's settings from the pillar: user.

    Example:
        >>> tmpfiles_text("demo", {"user": "app-demo"}).splitlines()[2]
        'd /run/apps/demo 0750 app-demo www-data -'
    """
    return f"{MARK}\nd {RUN} 0755 root root -\nd {RUN / app} 0750 {settings['user']} www-data -\n"


def connections(sockets: str, path: str) -> int:
    """Counts the connections on a unix socket's server side, those that nobody has accepted yet included.

    Args:
        sockets: the text of /proc/net/unix.
        path: path of the socket.

    Example:
        >>> connections("0: 00000003 00000000 00000000 0001 03 11111 /run/apps/demo/a.sock", "/run/apps/demo/a.sock")
        1
    """
    count = 0
    for line in sockets.splitlines():
        fields = line.split(maxsplit=7)
        # Columns: address, references, protocol, flags, type, state, inode, path. Flag 0x10000 is the listener.
        if len(fields) == 8 and fields[7] == path and not int(fields[3], 16) & 0x10000:
            count += 1
    return count


def _identity(app: str, settings: dict[str, Any]) -> list[str]:
    return [f"User={settings['user']}", f"Group={settings['user']}"]


def _writable(app: str, settings: dict[str, Any]) -> str:
    media = f" {APPS / app / 'media'}" if settings["media_url"] else ""
    return f"{DATA / app}{media}"


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        yield value


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(self.path)


# --- what is and what shall be ------------------------------------------------------------------------------


def desired(app: str) -> dict[str, str]:
    """Answers the release that this host shall serve. Changes nothing.

    On a builder it follows from the source as it is, so that a plan names it before it is built; elsewhere from
    the newest build that has been brought here.

    Args:
        app: name of an app of this host.

    Returns:
        ``id`` of the release and of its ``build``; and ``note``, a sentence, when a pin decides (``release.pin``).

    Raises:
        CommandExecutionError: the source is not buildable, no build is here, or the pinned release has gone.

    Example:
        .. code-block:: bash

            salt-call release.desired demo
    """
    if pin := pinned(app):
        build = manifest(app, pin["release"])["build"]
        return {"id": pin["release"], "build": build, "note": _pin_note(app, pin)}
    return _asked_for(app)


def _asked_for(app: str) -> dict[str, str]:
    """The release that the site asks for, pinned or not."""
    settings = _settings(app)
    build = __salt__["builder.released"](app)
    if "builder" in __pillar__["host"]["roles"]:
        newest = __salt__["build.identify"](app)["id"]
        build = newest if build is None or not __pillar__["wiring"]["builder"]["together"] else build
    if build is None:
        raise CommandExecutionError(f"the builder has no build of {app} yet: apply its states first")
    parts = {
        "environment": _environment(app),
        "gunicorn": gunicorn_conf(app, "ID", settings),
        "unit": unit_text(app, settings),
        "files": _files(app),
    }
    return {"id": release_id(build, parts), "build": build}


def active(app: str) -> str | None:
    """Answers the release that nginx sends requests to, or None.

    Args:
        app: name of an app.

    Example:
        .. code-block:: bash

            salt-call release.active demo
    """
    try:
        return (APPS / app / "current.sock").readlink().name.removesuffix(".sock")
    except FileNotFoundError:
        return None


def is_staged(app: str, release: str) -> bool:
    """Whether a release is installed on this host, whole.

    Args:
        app: name of an app.
        release: the release's id.

    Example:
        .. code-block:: bash

            salt-call release.is_staged demo 6f1d3c0a9b2e-2fcc3ffb
    """
    return (_directory(app, release) / "manifest.json").is_file()


def manifest(app: str, release: str) -> dict[str, Any]:
    """Answers what is known about an installed release.

    Args:
        app: name of an app.
        release: the release's id.

    Returns:
        id, app, build, commit, who and when, and ``django``: version, static files or not, migrations it holds, and
        the columns that its models use.

    Raises:
        CommandExecutionError: it is not installed.

    Example:
        .. code-block:: bash

            salt-call release.manifest demo 6f1d3c0a9b2e-2fcc3ffb
    """
    try:
        found: dict[str, Any] = json.loads((_directory(app, release) / "manifest.json").read_text())
    except FileNotFoundError:
        raise CommandExecutionError(f"release {release} of {app} is not installed on this host") from None
    return found


def list_(app: str) -> list[dict[str, Any]]:
    """Lists the installed releases of an app, newest first.

    Args:
        app: name of an app.

    Returns:
        id, build, commit, when (it was installed), who, ``active`` (has the traffic), ``pinned``, and ``served``:
        when it last got the traffic, or None.

    Example:
        .. code-block:: bash

            salt-call release.list demo
    """
    now, pin = active(app), pinned(app)
    served = {line["id"]: line["when"] for line in log(app, 0) if line["result"] in SERVED}
    found = []
    for one in _manifests(app):
        about = {key: one[key] for key in ("id", "build", "commit", "when", "who")}
        about |= {"active": one["id"] == now, "pinned": bool(pin) and one["id"] == pin["release"]}
        found.append(about | {"served": served.get(one["id"])})
    return sorted(found, key=lambda one: str(one["when"]), reverse=True)


def status(app: str) -> dict[str, Any]:
    """Compares the release that shall be served with the one that is.

    Args:
        app: name of an app of this host.

    Returns:
        ``desired``, ``active`` (ids), ``units`` (state of each instance that systemd knows), ``enabled`` (started
        at boot), ``problems``: what an apply would put right, as sentences; ``pinned``: a sentence when a pin
        decides what is desired; ``busy``: who deploys at this moment, or None.

    Example:
        .. code-block:: bash

            salt-call release.status demo
    """
    chosen = desired(app)
    wanted = chosen["id"]
    now, units, enabled = active(app), _instances(app), _enabled(app)
    problems = []
    if now != wanted:
        problems.append(f"{now or 'no release'} is active")
    if units.get(wanted) != "active":
        problems.append(f"{wanted} is not running ({units.get(wanted, 'inactive')})")
    if wanted not in enabled:
        problems.append(f"{wanted} is not started at boot")
    if now == wanted and _last_served(app) != now:
        problems.append(f"{now} is not in the ledger")  # killed between the switch and its record
    for other in sorted(set(enabled) - {wanted}):
        problems.append(f"{other} is started at boot")
    for other in sorted(key for key, state in units.items() if key != wanted and state != "inactive"):
        problems.append(f"{other} is {units[other]}")
    lock = __utils__["applock.holder"](APPS / app / ".lock")
    return {
        "desired": wanted,
        "active": now,
        "pinned": chosen.get("note"),
        "busy": __utils__["applock.describe"](lock) if lock is not None else None,
        "units": units,
        "enabled": enabled,
        "problems": problems,
    }


def unit_files(app: str) -> dict[str, str]:
    """Answers the files that make systemd know an app: texts by path.

    Args:
        app: name of an app of this host.

    Example:
        .. code-block:: bash

            salt-call release.unit_files demo
    """
    settings = _settings(app)
    return {
        str(UNITS / f"app-{app}@.service"): unit_text(app, settings),
        str(TMPFILES / f"app-{app}.conf"): tmpfiles_text(app, settings),
    }


def sandbox(app: str) -> list[str]:
    """Answers the directives of systemd that every process of an app has: its user, and what it may do.

    Args:
        app: name of an app of this host.

    Example:
        .. code-block:: bash

            salt-call release.sandbox demo
    """
    return [*_identity(app, _settings(app)), *SANDBOX]


# --- steps --------------------------------------------------------------------------------------------------


def write_unit_files(app: str) -> None:
    """Writes the unit and the tmpfiles.d entry of an app, and makes the directory of its sockets now.

    A changed unit is a new release, so nothing has to be restarted here.

    Args:
        app: name of an app of this host.

    Example:
        .. code-block:: bash

            salt-call release.write_unit_files demo
    """
    for path, text in unit_files(app).items():
        __utils__["appfiles.write"](path, text, 0o644)
    __utils__["appfiles.run"](["systemd-tmpfiles", "--create", str(TMPFILES / f"app-{app}.conf")])
    _systemctl("daemon-reload")


def stage(app: str) -> dict[str, Any]:
    """Installs the desired release beside the others: source, virtual environment, environment, gunicorn's settings.

    It is installed at its final path, because a virtual environment cannot be moved, and counts as installed when
    its manifest.json is there, which is written last. Only the build's own files are read; no index is asked.

    Args:
        app: name of an app of this host.

    Returns:
        The release's manifest.

    Raises:
        CommandExecutionError: a file of the build is missing or changed (then nothing was touched), or the
            installation failed, or Django does not start in it.

    Example:
        .. code-block:: bash

            salt-call release.stage demo
    """
    wanted = desired(app)
    release, directory = wanted["id"], _directory(app, wanted["id"])
    reached = __utils__["steps.reached"]
    with _locked(app, f"installing {release}", STAGE_SECONDS) as still_held, _readable_to_all():
        if is_staged(app, release):
            return manifest(app, release)
        if not __salt__["build.exists"](app, wanted["build"]) and "builder" not in __pillar__["host"]["roles"]:
            __salt__["builder.fetch"](app, wanted["build"])
        build = __salt__["build.verify"](app, wanted["build"])
        for half in _half_staged(app):
            shutil.rmtree(half)
        directory.mkdir(mode=0o755)
        reached("directory made")
        _install(app, directory, Path(__salt__["build.directory"](app, wanted["build"])))
        environment = {
            **_environment(app),
            "RELEASE_ID": release,
            "RELEASE_COMMIT": build["commit"],
            "STATIC_ROOT": str(directory / "static"),
        }
        write = __utils__["appfiles.write"]
        write(directory / "env", environment_file(environment), 0o600)
        for path, text in _files(app).items():
            _write_file(directory / "src" / path, text, _settings(app)["user"])
        write(directory / "gunicorn.conf.py", gunicorn_conf(app, release, _settings(app)), 0o644)
        reached("settings written")
        found = {
            "id": release,
            "app": app,
            "build": wanted["build"],
            "commit": build["commit"],
            "who": _who(),
            "when": _now(),
            "django": _ask_django(app, release),
        }
        reached("Django asked")
        # The manifest says that all of it is there; so must the disk, even after a power cut.
        __utils__["appfiles.run"](["sync", "--file-system", str(directory)])
        still_held()
        write(directory / "manifest.json", json.dumps(found, indent=1) + "\n", 0o644)
        reached("installed")
        return found


def one_off(app: str, release: str, name: str, arguments: list[str], writable: str = "", environment: str = "") -> str:
    """Runs a command of a release as a transient unit, as the web process runs: user, environment, sandbox.

    One that is still running under this name, because the Salt run that started it was killed, is waited for.

    Args:
        app: name of an app of this host.
        release: the release's id.
        name: what the unit is named after: app-<app>-<name>.
        arguments: arguments for the release's Python, such as ``["-m", "django", "check"]``. Never a secret.
        writable: a directory that it may write to, besides the app's own.
        environment: a file like the release's own ``env``, whose variables win over that one's.

    Returns:
        What it printed on stdout.

    Raises:
        CommandExecutionError: it failed; with the last lines it printed, secrets blackened.

    Example:
        .. code-block:: bash

            salt-call release.one_off demo 6f1d3c0a9b2e-2fcc3ffb check '["-m", "django", "check"]'
    """
    while _systemctl("show", "--property=ActiveState", "--value", f"app-{app}-{name}.service").strip() in (
        "active",
        "activating",
    ):
        time.sleep(0.5)
    argv = one_off_command(app, release, name, arguments, writable, environment)
    try:
        found: str = __utils__["appfiles.run"](argv, timeout=3700)
    except CommandExecutionError as error:
        said = str(error).partition("\n")[2] or str(error)
        raise CommandExecutionError(redact(f"{app}: {name} of release {release} failed:\n{said}")) from None
    return found


def one_off_command(
    app: str, release: str, name: str, arguments: list[str], writable: str = "", environment: str = ""
) -> list[str]:
    """Answers the command line that runs a command of a release as a transient unit, as the web process runs.

    Args:
        app: name of an app of this host.
        release: the release's id.
        name: what the unit is named after: app-<app>-<name>.
        arguments: arguments for the release's Python. Never a secret.
        writable: a directory that it may write to, besides the app's own.
        environment: a file whose variables win over the release's own.

    Example:
        .. code-block:: bash

            salt-call release.one_off_command demo 6f1d3c0a9b2e-2fcc3ffb check '["-m", "django", "check"]'
    """
    settings, directory = _settings(app), _directory(app, release)
    properties = [
        *_identity(app, settings),
        *SANDBOX,
        f"WorkingDirectory={directory}/src",
        f"EnvironmentFile={directory}/env",  # read by PID 1, so the values are on no command line
        *([f"EnvironmentFile={environment}"] if environment else []),
        f"ReadWritePaths={_writable(app, settings)} {writable}".strip(),
        "RuntimeMaxSec=3600",
        *(["Nice=19"] if name in UNHURRIED else []),
    ]
    # The description would otherwise be the whole command, in the journal too.
    argv = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit=app-{app}-{name}.service"]
    argv += [f"--description={app}: {name}, release {release}", *(f"--property={one}" for one in properties)]
    return [*argv, "--", f"{directory}/venv/bin/python", *arguments]


def activate(app: str) -> None:
    """Gives the traffic to the desired release, if it deserves it, and puts right what a killed run left.

    Start, ask until it has answered well several times in a row, switch, wait for what the old release has in
    flight, stop the old one. When the new release does not answer well it is stopped and the old one serves on.

    Args:
        app: name of an app of this host.

    Raises:
        CommandExecutionError: the release is not installed, did not start or did not answer well; with the app's
            last log lines.

    Example:
        .. code-block:: bash

            salt-call release.activate demo
    """
    _serve(app, desired(app)["id"])


def rollback(app: str, release: str | None = None) -> str:
    """Gives the traffic back to an installed release: the one that served before, or the named one. Builds nothing.

    It passes the same gate as any other, and is pinned, so that the next apply does not take it away again:
    ``release.unpin`` hands the choice back to the site.

    Args:
        app: name of an app of this host.
        release: id of an installed release (``release.list``).

    Returns:
        What was done, and what it means for the next apply.

    Raises:
        CommandExecutionError: there is no such release, a migration since then is in the way, or the release did
            not answer well; then what was served is served on, and nothing is pinned.

    Example:
        .. code-block:: bash

            salt-call release.rollback demo
            salt-call release.rollback demo 6f1d3c0a9b2e-2fcc3ffb
    """
    now = active(app)
    target = release or _served_before(app, now)
    manifest(app, target)  # refuses one that is not installed
    if target == now:
        raise CommandExecutionError(f"release {target} of {app} is active already: release.pin keeps it so")
    for step, proof in (
        ("static files were not collected", "static.json"),
        ("migrations were not run", "migrated.json"),
    ):
        if not (_directory(app, target) / proof).is_file():
            raise CommandExecutionError(f"release {target} of {app} never got as far as to serve: its {step}")
    _refuse_migrations(app, target)
    __salt__["django.publish_static"](app, target)
    _serve(app, target, f"rolled back from {now}")
    if "worker" in __pillar__["host"]["roles"]:
        __salt__["processes.converge"](app)  # web and background of one app are of one release
    return f"Release {target} of {app} has the traffic; before: {now}. {_pin_note(app, pinned(app) or {})}"


def pin(app: str, release: str | None = None, why: str = "") -> str:
    """Holds an app at an installed release, whatever the site asks for, until ``release.unpin``. Switches nothing.

    Args:
        app: name of an app of this host.
        release: id of an installed release; without it the active one.
        why: a word for those who find it pinned.

    Returns:
        What it means for the next apply.

    Raises:
        CommandExecutionError: no such release is installed, or a migration since then is in the way.

    Example:
        .. code-block:: bash

            salt-call release.pin demo why='audit until Friday'
    """
    target = release or active(app)
    if target is None:
        raise CommandExecutionError(f"no release of {app} is active: name one of release.list")
    about = manifest(app, target)
    if target != active(app):
        _refuse_migrations(app, target)
    _write_pin(app, target, why)
    _record(app, about, "pinned", why)
    return _pin_note(app, pinned(app) or {})


def unpin(app: str) -> str:
    """Lets the site choose the release again. Switches nothing: the next apply does.

    Args:
        app: name of an app of this host.

    Returns:
        What the next apply will do.

    Example:
        .. code-block:: bash

            salt-call release.unpin demo
    """
    found, now = pinned(app), active(app)
    if found is None:
        return f"No release of {app} is pinned."
    _pin_file(app).unlink(missing_ok=True)
    line = {"when": _now(), "who": _who(), "id": found["release"], "result": "unpinned"}
    __utils__["ledger.append"](APPS / app / "ledger.jsonl", line)
    wanted = _asked_for(app)["id"]
    then = f"{wanted} stays active" if wanted == now else f"the next state.apply replaces {now} by {wanted}"
    return f"Release {found['release']} of {app} is pinned no more: {then}."


def pinned(app: str) -> dict[str, str] | None:
    """Answers the pin of an app, or None.

    Args:
        app: name of an app.

    Returns:
        release, who, when, why.

    Example:
        .. code-block:: bash

            salt-call release.pinned demo
    """
    try:
        found: dict[str, str] = json.loads(_pin_file(app).read_text())
    except FileNotFoundError:
        return None
    return found


def log(app: str, count: int = 20) -> list[dict[str, Any]]:
    """Answers an app's ledger: who deployed what, when, with which result; the newest last.

    Args:
        app: name of an app.
        count: how many of the last lines; 0 means all.

    Returns:
        when, who, id, result (activated, repaired, rolled back, refused, pinned, unpinned), and where they are known
        build, commit and ``why``.

    Example:
        .. code-block:: bash

            salt-call release.log demo
            salt-call release.log demo 100
    """
    lines: list[dict[str, Any]] = __utils__["ledger.read"](APPS / app / "ledger.jsonl")
    return lines[-count:] if count else lines


def prune(app: str, keep: int = KEEP_RELEASES) -> list[str]:
    """Removes old releases now: never the active one nor a pinned one. Each deploy does so with the default.

    Args:
        app: name of an app of this host.
        keep: how many stay, the active one included; those that served last.

    Returns:
        Ids of the releases that were removed.

    Raises:
        CommandExecutionError: ``keep`` is less than 1, or no release is active.

    Example:
        .. code-block:: bash

            salt-call release.prune demo
            salt-call release.prune demo 1
    """
    if keep < 1:
        raise CommandExecutionError("keep: at least 1, the release that is active")
    with _locked(app, "removing old releases", ACTIVATE_SECONDS):
        now = active(app)
        if now is None:
            raise CommandExecutionError(f"no release of {app} is active, so none of them is old")
        return _prune(app, now, keep)


def record_command(app: str, release: str, command: str, exit_code: int) -> None:
    """Writes a line into the ledger: who ran which command of a release, when, with which result.

    Args:
        app: name of an app.
        release: id of the release that ran it.
        command: the command, without anything that could be a secret.
        exit_code: its exit code.

    Example:
        .. code-block:: bash

            salt-call release.record_command demo 6f1d3c0a9b2e-2fcc3ffb 'check --deploy' 0
    """
    _record(app, manifest(app, release) | {"command": command}, f"exit code {exit_code}")


def orphans(apps: list[str]) -> list[str]:
    """Lists apps that this host still knows though they are not among the given ones.

    Args:
        apps: names of the apps that belong here.

    Example:
        .. code-block:: bash

            salt-call release.orphans '[demo]'
    """
    found = []
    for path in UNITS.glob("app-*@.service"):
        if path.read_text().startswith(MARK):
            found.append(path.name.removeprefix("app-").removesuffix("@.service"))
    return sorted(set(found) - set(apps))


def remove(app: str) -> None:
    """Stops an app and takes it out of systemd. Its releases, its data and its user stay.

    Args:
        app: the app's name.

    Example:
        .. code-block:: bash

            salt-call release.remove demo
    """
    (APPS / app / "current.sock").unlink(missing_ok=True)
    _retire_others(app, None)
    (TMPFILES / f"app-{app}.conf").unlink(missing_ok=True)
    # Last: while it is there, ``orphans`` finds the app again.
    (UNITS / f"app-{app}@.service").unlink(missing_ok=True)
    _systemctl("daemon-reload")


def redact(text: str) -> str:
    """Blackens every secret of this host's pillar in a text that is going to be shown.

    Args:
        text: such as an app's log lines.

    Example:
        >>> redact("connecting as demo")
        'connecting as demo'
    """
    # Short ones are no secrets, and would blacken half of the text.
    secrets = {value for value in _leaves(__pillar__.get("secrets", {})) if len(value) >= 8}
    # As they are, as Python's tracebacks and JSON write them, and as they stand in a URL.
    forms = {
        form for value in secrets for form in (value, repr(value)[1:-1], json.dumps(value)[1:-1], quote(value, ""))
    }
    for secret in sorted(forms, key=len, reverse=True):
        text = text.replace(secret, "********")
    return text


# --- parts of the steps -------------------------------------------------------------------------------------


def _settings(app: str) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = __pillar__["apps"][app]
    except KeyError:
        known = ", ".join(sorted(__pillar__.get("apps", {}))) or "none"
        raise CommandExecutionError(f'no app "{app}" on this host; there are: {known}') from None
    return settings


def _environment(app: str) -> dict[str, str]:
    return {**_settings(app)["env"], **__pillar__["wiring"]["apps"][app]["environment"]}


def _files(app: str) -> dict[str, str]:
    """The app's extra files, from the site's templates: texts by path in the source."""
    found: dict[str, str] = __pillar__["wiring"]["apps"][app]["files"]
    return found


def _write_file(path: Path, text: str, group: str) -> None:
    """They may hold secrets, so only root and the app read them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    __utils__["appfiles.write"](path, text, 0o600)
    shutil.chown(path, "root", group)
    path.chmod(0o640)


def _serve(app: str, release: str, pin_why: str | None = None) -> None:
    """Start, gate, switch, drain, stop; with ``pin_why`` the release is pinned when it has passed the gate."""
    about, reached = manifest(app, release), __utils__["steps.reached"]
    with _locked(app, f"activating {release}", ACTIVATE_SECONDS) as still_held:
        before = active(app)
        try:
            _start(app, release)
            reached("started")
            _pass_gate(app, release)
        except CommandExecutionError as error:
            lines = _last_log_lines(app, release)
            if before != release:
                _systemctl("stop", _unit(app, release))
                (RUN / app / f"{release}.sock").unlink(missing_ok=True)  # left behind when it crashed
            _record(app, about, "refused", redact(str(error)))
            serving = f"{before} serves on" if before and before != release else "nothing else can serve"
            raise CommandExecutionError(
                redact(f"release {release} of {app} gets no traffic; {serving}. {error}\nIts last log lines:\n{lines}")
            ) from None
        reached("gate passed")
        still_held()
        if pin_why is not None:
            _write_pin(app, release, pin_why)
        # Before the switch: after a crash in between, both start at boot and the link still says which one serves.
        _systemctl("enable", "--quiet", "--no-reload", _unit(app, release))
        reached("enabled")
        __utils__["appfiles.point"](APPS / app / "current.sock", RUN / app / f"{release}.sock")
        reached("switched")
        _retire_others(app, release)
        # What was enabled and disabled makes every unit of the host say that systemd has not read it.
        _systemctl("daemon-reload")
        result = "rolled back" if pinned(app) else "activated"
        _record(app, about, "repaired" if _last_served(app) == release else result)
        reached("recorded")
        _prune(app, release)
        reached("pruned")


def _last_served(app: str) -> str | None:
    return next((line["id"] for line in reversed(log(app, 0)) if line["result"] in SERVED), None)


def _locked(app: str, what: str, seconds: int) -> Any:
    return __utils__["applock.hold"](APPS / app / ".lock", what, seconds)


def _pin_file(app: str) -> Path:
    return APPS / app / "pin.json"


def _write_pin(app: str, release: str, why: str) -> None:
    found = {"release": release, "who": _who(), "when": _now(), "why": why}
    __utils__["appfiles.write"](_pin_file(app), json.dumps(found) + "\n", 0o644)


def _pin_note(app: str, pin: dict[str, str]) -> str:
    why = f" ({pin['why']})" if pin.get("why") else ""
    return (
        f"Release {pin['release']} is pinned by {pin['who']} since {pin['when'][:19]}{why}: what the site asks for "
        f"is not served until `salt-call release.unpin {app}`."
    )


def _served_before(app: str, now: str | None) -> str:
    """The installed release that was deployed before the active one."""
    # A release that was rolled back to keeps its place, so that a second rollback goes further back and not to and fro.
    deployed = [line["id"] for line in log(app, 0) if line["result"] == "activated"]
    order = list(dict.fromkeys(reversed(deployed)))
    older = order[order.index(now) + 1 :] if now in order else order
    installed = [one for one in older if one != now and is_staged(app, one)]
    if not installed:
        raise CommandExecutionError(
            f"no release of {app} that served before {now} is installed; see release.list {app}"
        )
    return installed[0]


def _refuse_migrations(app: str, target: str) -> None:
    """Raises when the database has been migrated since, in a way that the older release might not bear."""
    about = manifest(app, target)
    applied = __salt__["django.applied_since"](app, target)
    declared = _settings(app)["migrations"]["reversible"]
    if found := __utils__["rollback.in_the_way"](applied, about, _manifests(app), declared):
        raise CommandExecutionError(
            f"release {target} of {app} may not bear what was migrated since: {', '.join(found)}. If the older code "
            f"works on after it, say so in apps/{app}.yaml: `migrations: {{reversible: [{', '.join(found)}]}}`; else "
            "deploy a newer release that puts things right."
        )


def _manifests(app: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (APPS / app / "releases").glob("*/manifest.json")]


def _directory(app: str, release: str) -> Path:
    return APPS / app / "releases" / release


def _unit(app: str, release: str) -> str:
    return f"app-{app}@{release}.service"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _who() -> str:
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _systemctl(*arguments: str) -> str:
    found: str = __utils__["appfiles.run"](["systemctl", *arguments], timeout=120)
    return found


def _instances(app: str) -> dict[str, str]:
    """ActiveState of every instance that systemd has in memory, by release."""
    text = _systemctl("show", f"app-{app}@*.service", "--property=Id", "--property=ActiveState")
    found = {}
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if values:
            found[values["Id"].partition("@")[2].removesuffix(".service")] = values["ActiveState"]
    return found


def _enabled(app: str) -> list[str]:
    links = (UNITS / "multi-user.target.wants").glob(f"app-{app}@*.service")
    return sorted(link.name.partition("@")[2].removesuffix(".service") for link in links)


def _half_staged(app: str) -> list[Path]:
    """Directories of installations that were killed; called with the lock held, so nobody is at work in them."""
    return [path for path in (APPS / app / "releases").iterdir() if not (path / "manifest.json").is_file()]


@contextlib.contextmanager
def _readable_to_all() -> Iterator[None]:
    """The app must read what root installs, whatever umask root has; who gets there is decided by releases/."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _install(app: str, directory: Path, build: Path) -> None:
    run, uv = __utils__["appfiles.run"], __utils__["appfiles.uv"]()
    python = f"{directory}/venv/bin/python"
    late = ["nice", "-n", "19"]  # who is being served on this host comes first
    quiet = ["--quiet", "--no-config", "--offline", "--no-python-downloads", "--no-cache"]
    reached = __utils__["steps.reached"]
    __salt__["build.unpack"](build / "src.tar.gz", directory / "src")
    shutil.copy(build / "bom.json", directory / "bom.json")
    reached("source unpacked")
    run([*late, uv, "venv", *quiet, "--no-project", "--python", "/usr/bin/python3", f"{directory}/venv"])
    reached("environment made")
    run(
        [
            *late, uv, "pip", "install", *quiet, "--python", python,
            "--no-index", "--find-links", str(build / "wheels"), "--require-hashes",
            "--no-deps", "--no-build", "--link-mode", "copy", "--compile-bytecode",
            "--requirements", str(build / "requirements.txt"),
        ]
    )  # fmt: skip
    run([*late, python, "-m", "compileall", "-q", "-j", "0", str(directory / "src")])
    reached("packages installed")


def _ask_django(app: str, release: str) -> dict[str, Any]:
    answer = one_off(app, release, "first-start-of-django", ["-c", __utils__["rollback.probe"]() + FACTS])
    line = next((line for line in reversed(answer.splitlines()) if line.startswith("SALTERN ")), None)
    if line is None:
        raise CommandExecutionError(f"{app}, release {release}: Django started, but its answer was lost")
    found: dict[str, Any] = json.loads(line.removeprefix("SALTERN "))
    return found


def _start(app: str, release: str) -> None:
    """Returns when gunicorn has said that it is ready."""
    # Asked, because a reload takes systemd 0.1 s and more; "yes" is what a run that was killed may have left.
    if "yes" in _systemctl("show", "--property=NeedDaemonReload", "--value", _unit(app, release)):
        _systemctl("daemon-reload")
    if _instances(app).get(release) != "active":
        try:
            _systemctl("start", _unit(app, release))
        except CommandExecutionError:
            raise CommandExecutionError(f"It did not start within {START_SECONDS} seconds, or ended at once.") from None


def _pass_gate(app: str, release: str) -> None:
    """Returns when the release has answered well several times in a row."""
    until, good, problem = time.monotonic() + GATE_SECONDS, 0, "it has not been asked"
    workers: set[str] = set()
    while good < GATE_ANSWERS:
        if time.monotonic() > until:
            raise CommandExecutionError(f"Within {GATE_SECONDS} seconds it did not answer well: {problem}.")
        if _instances(app).get(release) != "active":
            raise CommandExecutionError(f"It ended while it was being asked; before that: {problem}.")
        found = _ask_and_watch(app, release, workers)
        good, problem = (0, found) if found else (good + 1, problem)
        if good < GATE_ANSWERS:
            time.sleep(GATE_PAUSE)


def _ask_and_watch(app: str, release: str, workers: set[str]) -> str | None:
    """Asks, and sees meanwhile whether worker after worker dies: gunicorn itself then stays, and a question hangs."""
    most = _settings(app)["workers"] * (CRASHES + 1)
    pool = concurrent.futures.ThreadPoolExecutor(1)
    try:
        main = _systemctl("show", "--property=MainPID", "--value", _unit(app, release)).strip()
        # Salt's __pillar__ is a context variable.
        answer = pool.submit(contextvars.copy_context().run, _ask, app, release)
        while not concurrent.futures.wait([answer], timeout=GATE_PAUSE).done:
            workers |= _children(main)
            if len(workers) > most:
                raise CommandExecutionError("Its workers end as soon as they start (a crash loop).")
        return answer.result()
    finally:
        pool.shutdown(wait=False)  # a question that hangs ends with the unit


def _children(process: str) -> set[str]:
    try:
        return set(Path(f"/proc/{process}/task/{process}/children").read_text().split())
    except OSError:
        return set()


def _ask(app: str, release: str) -> str | None:
    """What is wrong with a release's answers, or None."""
    settings = _settings(app)
    try:
        code, _ = _get(app, release, settings["health_path"])
        if code != settings["health_status"]:
            return f"{settings['health_path']} answered {code} and not {settings['health_status']}"
        if settings["version_path"]:
            code, body = _get(app, release, settings["version_path"])
            if code != 200:
                return f"{settings['version_path']} answered {code}"
            if release not in body:  # which no time will change
                raise CommandExecutionError(f"{settings['version_path']} answered without the release's id.")
    except (OSError, http.client.HTTPException) as error:
        return f"no answer ({type(error).__name__}: {error})"
    return None


def _get(app: str, release: str, path: str) -> tuple[int, str]:
    """Asks as nginx does: real host name, and the word that the client came by HTTPS."""
    host = _settings(app)["hostnames"][0]
    headers = {"Host": host, "X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1", "Connection": "close"}
    with contextlib.closing(_UnixConnection(str(RUN / app / f"{release}.sock"))) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(65536).decode(errors="replace")


def _retire_others(app: str, keep: str | None) -> None:
    """Stops every other release, when it has answered what it was asked."""
    reached = __utils__["steps.reached"]
    running = {release for release, state in _instances(app).items() if state != "inactive"}
    for other in sorted((running | set(_enabled(app))) - {keep}):
        _systemctl("disable", "--quiet", "--no-reload", _unit(app, other))
        reached("old one disabled")
        _drain(str(RUN / app / f"{other}.sock"))
        reached("old one drained")
        _systemctl("stop", _unit(app, other))
        reached("old one stopped")


def _drain(path: str) -> None:
    """Waits until a socket has no connection: a stopped gunicorn forgets those that it has not accepted yet."""
    until, calm = time.monotonic() + LONGEST_REQUEST, 0
    while calm < 3 and time.monotonic() < until:
        calm = 0 if connections(Path("/proc/net/unix").read_text(), path) else calm + 1
        time.sleep(0.05)


def _last_log_lines(app: str, release: str) -> str:
    try:
        found: str = __utils__["appfiles.run"](
            [
                "journalctl",
                "--no-pager",
                "--quiet",
                "--output=cat",
                "--lines=80",  # two workers' tracebacks and gunicorn's own
                f"_SYSTEMD_UNIT={_unit(app, release)}",
            ]
        )
    except CommandExecutionError as error:
        return f"(not to be had: {error})"
    return found.strip()


def _record(app: str, about: dict[str, Any], result: str, why: str = "") -> None:
    """One line in the ledger: who gave which release the traffic, or ran what in it, when, with which result."""
    known = {key: about[key] for key in ("id", "build", "commit", "command") if key in about}
    line = {"when": _now(), "who": _who(), **known, "result": result}
    __utils__["ledger.append"](APPS / app / "ledger.jsonl", line | ({"why": why} if why else {}))


def _prune(app: str, active: str, keep: int = KEEP_RELEASES) -> list[str]:
    """Removes old releases, never the active one, and static files that no release has had for a long time."""
    # Those that served last are kept; one that was refused is nothing to go back to.
    served = [line["id"] for line in log(app, 0) if line["result"] in SERVED and line["id"] != active]
    kept = {active, *list(dict.fromkeys(reversed(served)))[: keep - 1]}
    if pin := pinned(app):
        kept.add(pin["release"])
    gone = sorted({one["id"] for one in _manifests(app)} - kept)
    for release in gone:
        (_directory(app, release) / "manifest.json").unlink()  # first: what is half removed is no release
        shutil.rmtree(_directory(app, release))
        (RUN / app / f"{release}.sock").unlink(missing_ok=True)
    # A served file is a second name of the release's file (django.publish_static), so with one name left it belongs
    # to no release any more; and its ctime is when the other name went.
    before = time.time() - KEEP_STATIC_DAYS * 86400
    for path in (APPS / app / "static").rglob("*"):
        about = path.lstat()
        if path.is_file() and about.st_nlink == 1 and about.st_ctime < before:
            path.unlink()
    return gone
