"""Releases: a build plus an environment, started, checked, and only then given the traffic.

Every function asks the host how things are and does what is missing, so a run that was killed anywhere is finished
by the next one. Which release nginx sends requests to is one symbolic link, /srv/apps/<app>/current.sock; renaming
a new link over it is the switch (trial: 20 switches lost 0 of 42,449 requests; docs/roles/web.md).
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import sys
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
GATE_PAUSE = 0.2  # seconds between two questions
ANSWER_SECONDS = 5  # a health page that takes longer counts as none

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
print("\\nSALTERN " + json.dumps({
    "django": django.get_version(),
    "static": apps.is_installed("django.contrib.staticfiles"),
    "migrations": sorted([*key, sorted(map(list, m.replaces))] for key, m in disk.items()),
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
        >>> "User=app-demo" in unit_text("demo", {"user": "app-demo", "memory_max_mb": 512})
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
            f"ReadWritePaths={RUN / app} {DATA / app}",
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
        ``id`` of the release and of its ``build``.

    Raises:
        CommandExecutionError: the source is not buildable, or no build is here.

    Example:
        .. code-block:: bash

            salt-call release.desired demo
    """
    settings = _settings(app)
    if "builder" in __pillar__["host"]["roles"]:
        build = __salt__["build.identify"](app)["id"]
    else:
        build = __salt__["build.current"](app)
    if build is None:
        raise CommandExecutionError(f"no build of {app} is on this host: bring one here from the builder first")
    parts = {
        "environment": _environment(app),
        "gunicorn": gunicorn_conf(app, "ID", settings),
        "unit": unit_text(app, settings),
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
        id, app, build, commit, who and when, and ``django``: version, static files or not, migrations it holds.

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
        id, build, commit, when, and whether it is the active one.

    Example:
        .. code-block:: bash

            salt-call release.list demo
    """
    now = active(app)
    found = []
    for path in (APPS / app / "releases").glob("*/manifest.json"):
        one = json.loads(path.read_text())
        found.append({key: one[key] for key in ("id", "build", "commit", "when")} | {"active": one["id"] == now})
    return sorted(found, key=lambda one: str(one["when"]), reverse=True)


def status(app: str) -> dict[str, Any]:
    """Compares the release that shall be served with the one that is.

    Args:
        app: name of an app of this host.

    Returns:
        ``desired``, ``active`` (ids), ``units`` (state of each instance that systemd knows), ``enabled`` (started
        at boot) and ``problems``: what an apply would put right, as sentences.

    Example:
        .. code-block:: bash

            salt-call release.status demo
    """
    wanted = desired(app)["id"]
    now, units, enabled = active(app), _instances(app), _enabled(app)
    problems = []
    if now != wanted:
        problems.append(f"{now or 'no release'} is active")
    if units.get(wanted) != "active":
        problems.append(f"{wanted} is not running ({units.get(wanted, 'inactive')})")
    if wanted not in enabled:
        problems.append(f"{wanted} is not started at boot")
    for other in sorted(set(enabled) - {wanted}):
        problems.append(f"{other} is started at boot")
    for other in sorted(key for key, state in units.items() if key != wanted and state != "inactive"):
        problems.append(f"{other} is {units[other]}")
    return {"desired": wanted, "active": now, "units": units, "enabled": enabled, "problems": problems}


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
    with __utils__["appfiles.locked"](APPS / app / ".lock"), _readable_to_all():
        if is_staged(app, release):
            return manifest(app, release)
        build = __salt__["build.verify"](app, wanted["build"])
        if not any(re.match(r"wheels/gunicorn-", name) for name in build["files"]):
            raise CommandExecutionError(
                f"{app}: {build['source']}: the lock has no gunicorn, which serves the app. Add gunicorn>=27 to the "
                "requirements and lock again."
            )
        for half in _half_staged(app):
            shutil.rmtree(half)
        directory.mkdir(mode=0o755)
        _install(app, directory, Path(__salt__["build.directory"](app, wanted["build"])))
        environment = {
            **_environment(app),
            "RELEASE_ID": release,
            "RELEASE_COMMIT": build["commit"],
            "STATIC_ROOT": str(directory / "static"),
        }
        write = __utils__["appfiles.write"]
        write(directory / "env", environment_file(environment), 0o600)
        write(directory / "gunicorn.conf.py", gunicorn_conf(app, release, _settings(app)), 0o644)
        found = {
            "id": release,
            "app": app,
            "build": wanted["build"],
            "commit": build["commit"],
            "who": _who(),
            "when": _now(),
            "django": _ask_django(app, release),
        }
        # The manifest says that all of it is there; so must the disk, even after a power cut.
        __utils__["appfiles.run"](["sync", "--file-system", str(directory)])
        write(directory / "manifest.json", json.dumps(found, indent=1) + "\n", 0o644)
        return found


def one_off(app: str, release: str, name: str, arguments: list[str], writable: str = "") -> str:
    """Runs a command of a release as a transient unit, as the web process runs: user, environment, sandbox.

    One that is still running under this name, because the Salt run that started it was killed, is waited for.

    Args:
        app: name of an app of this host.
        release: the release's id.
        name: what the unit is named after: app-<app>-<name>.
        arguments: arguments for the release's Python, such as ``["-m", "django", "check"]``. Never a secret.
        writable: a directory that it may write to, besides the app's own.

    Returns:
        What it printed on stdout.

    Raises:
        CommandExecutionError: it failed; with the last lines it printed, secrets blackened.

    Example:
        .. code-block:: bash

            salt-call release.one_off demo 6f1d3c0a9b2e-2fcc3ffb check '["-m", "django", "check"]'
    """
    settings, directory, unit = _settings(app), _directory(app, release), f"app-{app}-{name}.service"
    while _systemctl("show", "--property=ActiveState", "--value", unit).strip() in ("active", "activating"):
        time.sleep(0.5)
    properties = [
        *_identity(app, settings),
        *SANDBOX,
        f"WorkingDirectory={directory}/src",
        f"EnvironmentFile={directory}/env",  # read by PID 1, so the values are on no command line
        f"ReadWritePaths={DATA / app} {writable}".strip(),
        "RuntimeMaxSec=3600",
    ]
    argv = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={unit}"]
    argv += [f"--property={one}" for one in properties]
    try:
        found: str = __utils__["appfiles.run"]([*argv, "--", f"{directory}/venv/bin/python", *arguments], timeout=3700)
    except CommandExecutionError as error:
        said = str(error).partition("\n")[2] or str(error)
        raise CommandExecutionError(redact(f"{app}: {name} of release {release} failed:\n{said}")) from None
    return found


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
    release = desired(app)["id"]
    about = manifest(app, release)
    with __utils__["appfiles.locked"](APPS / app / ".lock"):
        before = active(app)
        try:
            _systemctl("daemon-reload")
            _start(app, release)
            _pass_gate(app, release)
        except CommandExecutionError as error:
            log = _last_log_lines(app, release)
            if before != release:
                _systemctl("stop", _unit(app, release))
                (RUN / app / f"{release}.sock").unlink(missing_ok=True)  # left behind when it crashed
            _record(app, about, "refused")
            serving = f"{before} serves on" if before and before != release else "nothing else can serve"
            raise CommandExecutionError(
                redact(f"release {release} of {app} gets no traffic; {serving}. {error}\nIts last log lines:\n{log}")
            ) from None
        # Before the switch: after a crash in between, both start at boot and the link still says which one serves.
        _systemctl("enable", "--quiet", "--no-reload", _unit(app, release))
        __utils__["appfiles.point"](APPS / app / "current.sock", RUN / app / f"{release}.sock")
        _retire_others(app, release)
        _record(app, about, "activated" if before != release else "repaired")
        _prune(app, release)


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


def _uv() -> str:
    """uv, from Salt's own environment; over salt-ssh another Python runs this."""
    for path in (Path(sys.executable).with_name("uv"), Path("/opt/saltern/salt/bin/uv")):
        if os.access(path, os.X_OK):
            return str(path)
    raise CommandExecutionError(
        f"uv is neither beside {sys.executable} nor in /opt/saltern/salt/bin: bin/bootstrap installs it with Salt"
    )


@contextlib.contextmanager
def _readable_to_all() -> Iterator[None]:
    """The app must read what root installs, whatever umask root has; who gets there is decided by releases/."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _install(app: str, directory: Path, build: Path) -> None:
    run = __utils__["appfiles.run"]
    python = f"{directory}/venv/bin/python"
    quiet = ["--quiet", "--no-config", "--offline", "--no-python-downloads", "--no-cache"]
    __salt__["build.unpack"](build / "src.tar.gz", directory / "src")
    run([_uv(), "venv", *quiet, "--no-project", "--python", "/usr/bin/python3", f"{directory}/venv"])
    run(
        [
            _uv(), "pip", "install", *quiet, "--python", python, "--no-index", "--find-links", str(build / "wheels"),
            "--require-hashes", "--no-build", "--link-mode", "copy", "--compile-bytecode",
            "--requirements", str(build / "requirements.txt"),
        ]
    )  # fmt: skip
    run([python, "-m", "compileall", "-q", "-j", "0", str(directory / "src")])


def _ask_django(app: str, release: str) -> dict[str, Any]:
    answer = one_off(app, release, "first-start-of-django", ["-c", FACTS])
    line = next((line for line in reversed(answer.splitlines()) if line.startswith("SALTERN ")), None)
    if line is None:
        raise CommandExecutionError(f"{app}, release {release}: Django started, but its answer was lost")
    found: dict[str, Any] = json.loads(line.removeprefix("SALTERN "))
    return found


def _start(app: str, release: str) -> None:
    """Returns when gunicorn has said that it is ready."""
    if _instances(app).get(release) != "active":
        try:
            _systemctl("start", _unit(app, release))
        except CommandExecutionError:
            raise CommandExecutionError(f"It did not start within {START_SECONDS} seconds, or ended at once.") from None


def _pass_gate(app: str, release: str) -> None:
    """Returns when the release has answered well several times in a row."""
    until, good, problem = time.monotonic() + GATE_SECONDS, 0, "it has not been asked"
    while good < GATE_ANSWERS:
        if time.monotonic() > until:
            raise CommandExecutionError(f"Within {GATE_SECONDS} seconds it did not answer well: {problem}.")
        if _instances(app).get(release) != "active":
            raise CommandExecutionError(f"It ended while it was being asked; before that: {problem}.")
        found = _ask(app, release)
        good, problem = (0, found) if found else (good + 1, problem)
        time.sleep(GATE_PAUSE)


def _ask(app: str, release: str) -> str | None:
    """What is wrong with a release's answers, or None."""
    settings = _settings(app)
    try:
        code, _ = _get(app, release, settings["health_path"])
        if code != 200:
            return f"{settings['health_path']} answered {code}"
        if settings["version_path"]:
            code, body = _get(app, release, settings["version_path"])
            if code != 200 or release not in body:
                return f"{settings['version_path']} answered {code} without the release's id"
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
    running = {release for release, state in _instances(app).items() if state != "inactive"}
    for other in sorted((running | set(_enabled(app))) - {keep}):
        _systemctl("disable", "--quiet", "--no-reload", _unit(app, other))
        _drain(str(RUN / app / f"{other}.sock"))
        _systemctl("stop", _unit(app, other))


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
                "--lines=30",
                f"_SYSTEMD_UNIT={_unit(app, release)}",
            ]
        )
    except CommandExecutionError as error:
        return f"(not to be had: {error})"
    return found.strip()


def _record(app: str, about: dict[str, Any], result: str) -> None:
    """One line in the ledger: who gave which release the traffic, when, with which result."""
    line = {"when": _now(), "who": _who(), **{key: about[key] for key in ("id", "build", "commit")}, "result": result}
    ledger = APPS / app / "ledger.jsonl"
    with os.fdopen(os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640), "a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _prune(app: str, keep: str) -> None:
    """Removes old releases, never the active one, and static files that no release has had for a long time."""
    # Those that served last are kept; one that was refused is nothing to go back to.
    lines = map(json.loads, (APPS / app / "ledger.jsonl").read_text().splitlines())
    served = [line["id"] for line in lines if line["result"] != "refused" and line["id"] != keep]
    kept = {keep, *list(dict.fromkeys(reversed(served)))[: KEEP_RELEASES - 1]}
    for release in {one["id"] for one in list_(app)} - kept:
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
