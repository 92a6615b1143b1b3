"""What systemd and gunicorn are told of an app: units, sandbox, settings. Text only; nothing is written here.

A release is an instance of its app's unit; ``env`` and ``gunicorn.conf.py`` are in the release's own directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saltern.host.sandbox import KERNEL

APPS = Path("/srv/apps")
RUN = Path("/run/apps")  # where apps make their sockets
WEB = Path("/run/web")  # root's names for them, by which nginx connects
DATA = Path("/var/lib/apps")
MARK = "# Saltern's role web writes this file."

LONGEST_REQUEST = 30  # seconds; nginx gives up on an answer then, gunicorn waits as long before it kills
START_SECONDS = 60  # until gunicorn must take connections
COMMAND_SECONDS = 3600  # the longest that a one-off command may take
TASKS = 512  # most processes and threads of a unit
RESULTS = Path("/run/saltern/results")  # how one-off commands ended, in systemd's words
UNHURRIED = ("first-start-of-django", "collectstatic")  # one-off commands that hold no lock and hurt no one by waiting

# An app could put a link in its socket's place, to another app's socket or the database's, and nginx would follow it.
# So nginx knows a socket by a second name, in a directory of root's: what is no link never becomes one.
# Ready is a socket that takes connections, as the kernel has it. An app tells systemd nothing: who may (NotifyAccess=)
# puts its own end off for ever (EXTEND_TIMEOUT_USEC), and fills systemd's memory and log.
READY = 'until grep -qx ".* 00010000 0001 01 .* $$1" /proc/net/unix; do kill -0 "$$MAINPID"; sleep 0.05; done'
PUBLISH = 'n="$$2.new"; ln -fPT "$$1" "$$n" && test -S "$$n" && test ! -L "$$n" && mv -fT "$$n" "$$2" && rm -f "$$n"'
TELL = 'umask 022; mkdir -p -m 700 "$$1"; echo "$$SERVICE_RESULT" > "$$1/$$2"'
OUTSIDE = "/usr/bin/nsenter --target=1 --mount --"  # "+" is root, but sees of the disk what the unit sees

LOG_SECONDS = 30
TEMPORARY = (
    "TemporaryFileSystem=/tmp:rw,nosuid,nodev,mode=1777",
    "TemporaryFileSystem=/var/tmp:rw,nosuid,nodev,mode=1777",
    "TemporaryFileSystem=/dev/shm:rw,nosuid,nodev,noexec,mode=1777",  # PrivateDevices= has the host's there
)

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
    "PrivateDevices=yes",
    "DevicePolicy=closed",
    # A process sees its own app's directories and nothing else of ours; of /run only what carries its log: no D-Bus (a
    # logind that starts a user's own units, outside of here), no other socket. Not the journal's own protocol either: a
    # message there has no bound, and one would push everybody's lines out.
    "TemporaryFileSystem=/run:ro /srv:ro /var/lib/apps:ro",
    "InaccessiblePaths=-/dev/mqueue -/var/lib/saltern -/var/log -/var/spool -/var/backups -/var/cache/salt",
    "InaccessiblePaths=-/etc/salt -/etc/ssh -/etc/nginx -/etc/haproxy -/etc/keepalived -/etc/redis -/etc/postgresql",
    "InaccessiblePaths=-/opt/saltern -/var/lib/systemd -/var/lib/salt -/var/lib/nginx -/var/lib/redis",
    "InaccessiblePaths=-/var/lib/postgresql -/etc/systemd -/etc/tmpfiles.d -/etc/apt -/etc/pip.conf -/etc/sudoers.d",
    "BindReadOnlyPaths=-/run/systemd/journal/dev-log -/run/systemd/resolve",
    "PrivateUsers=yes",
    *KERNEL,
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    # io_uring opens sockets past this filter, of families that are closed below too (AF_VSOCK leads to a cloud's host).
    "SystemCallFilter=~@privileged @resources io_uring_setup io_uring_enter io_uring_register",
    "SystemCallFilter=@chown",  # gunicorn gives its socket to itself
    "SystemCallErrorNumber=EPERM",
    # A title (setproctitle) would overwrite what the process was started with, by which secretuse.py finds old secrets.
    "Environment=PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SPT_NOENV=1",
)


def unit_text(app: str, settings: dict[str, Any]) -> str:
    """Write the template unit of an app; its instances are the releases.

    Args:
        app: the app's name.
        settings: the app's settings from the pillar: memory_max_mb and what a sandbox needs.

    Example:
        >>> app = {"user": "app-demo", "media_url": None, "tmp_max_mb": 256, "log_lines_max": 3000}
        >>> "User=app-demo" in unit_text("demo", app | {"memory_max_mb": 512})
        True
    """
    release = APPS / app / "releases" / "%i"
    return "\n".join(
        [
            MARK,
            "[Unit]",
            f"Description={app}, release %i",
            "After=network.target nftables.service postgresql.service redis-server.service redis-server@cache.service",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=exec",
            "NotifyAccess=none",
            f"ExecStartPre=/bin/rm -f {RUN / app}/%i.sock",
            f"ExecStart={release}/venv/bin/python -m gunicorn --config {release}/gunicorn.conf.py",
            f"WorkingDirectory={release}/src",
            f"EnvironmentFile={release}/env",
            *sandbox(app, settings),
            f"ExecStartPost=+{OUTSIDE} /bin/sh -euc '{READY}; {PUBLISH}' sh {RUN / app}/%i.sock {WEB / app}/%i.sock",
            f"ExecStopPost=+{OUTSIDE} /bin/rm -f {WEB / app}/%i.sock",
            f"BindPaths={RUN / app}",
            f"ReadWritePaths={RUN / app}",
            *bounds(settings["memory_max_mb"]),
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


def gunicorn_conf(app: str, release: str, settings: dict[str, Any]) -> str:
    """Write gunicorn's configuration for one release (options as of gunicorn 27).

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


# What the app did not read of a body, which nginx has whole: a socket that is closed on it takes the answer along.
def post_request(worker, req, environ, resp):
    try:
        while environ["wsgi.input"].read(65536):
            pass
    except Exception:  # nginx has its answer and went, or the app closed its input
        pass
"""


def tmpfiles_text(app: str, settings: dict[str, Any]) -> str:
    """Write the tmpfiles.d entry that makes the directories of an app's sockets at boot.

    Args:
        app: the app's name.
        settings: the app's settings from the pillar: user.

    Example:
        >>> tmpfiles_text("demo", {"user": "app-demo"}).splitlines()[2]
        'd /run/apps/demo 0750 app-demo www-data -'
    """
    lines = [MARK]
    for folder, owner in ((RUN, settings["user"]), (WEB, "root")):
        lines += [f"d {folder} 0755 root root -", f"d {folder / app} 0750 {owner} www-data -"]
    return "\n".join([*lines, ""])


def one_off_command(
    app: str,
    release: str,
    settings: dict[str, Any],
    name: str,
    arguments: list[str],
    writes: str,
    environment: str,
    host_mb: int,
) -> list[str]:
    """Return the command line that runs a command of a release as a transient unit, as the web process runs.

    Args:
        app: the app's name.
        release: the release's id.
        settings: the app's settings from the pillar: user, media_url, memory_max_mb, command_memory_max_mb and
            what a sandbox needs.
        name: what the unit is named after: app-<app>-<name>.
        arguments: arguments for the release's Python. Never a secret.
        writes: a directory that it may write to, besides the app's own; or nothing.
        environment: a file whose variables win over the release's own; or nothing.
        host_mb: the host's memory, in MiB.

    Example:
        >>> app = {"user": "app-demo", "media_url": None, "tmp_max_mb": 256, "log_lines_max": 3000}
        >>> app |= {"memory_max_mb": 512, "command_memory_max_mb": None}
        >>> one_off_command("demo", "x", app, "check", ["-m", "django", "check"], "", "", 4096)[-4:]
        ['/srv/apps/demo/releases/x/venv/bin/python', '-m', 'django', 'check']
    """
    directory = APPS / app / "releases" / release
    properties = [
        *sandbox(app, settings),
        f"WorkingDirectory={directory}/src",
        f"EnvironmentFile={directory}/env",  # read by PID 1, so the values are on no command line
        *([f"EnvironmentFile={environment}"] if environment else []),
        *([f"ReadWritePaths={writes}"] if writes else []),
        f"RuntimeMaxSec={COMMAND_SECONDS}",
        *bounds(command_memory(settings, host_mb)),
        "OOMPolicy=kill",
        *(["Nice=19"] if name in UNHURRIED else []),
        *(["CPUWeight=50", "IOWeight=50"] if name != "migrate" else []),  # which holds locks
        # systemd forgets at once how it ended, and who was killed cannot tell.
        f"ExecStopPost=+{OUTSIDE} /bin/sh -euc '{TELL}' sh {RESULTS} app-{app}-{name}",
    ]
    # The description would otherwise be the whole command, in the journal too.
    argv = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit=app-{app}-{name}.service"]
    argv += [f"--description={app}: {name}, release {release}", *(f"--property={one}" for one in properties)]
    return [*argv, "--", f"{directory}/venv/bin/python", *arguments]


def command_memory(settings: dict[str, Any], host_mb: int) -> int:
    """Return the most memory for a one-off command, in MiB.

    A migration may read what no request does: twice the memory of the web processes, and at least 1 GiB, is what
    it gets without a word of the site; but with half of the host's memory others still live.

    Args:
        settings: the app's settings from the pillar: memory_max_mb, command_memory_max_mb.
        host_mb: the host's memory, in MiB.

    Example:
        >>> command_memory({"memory_max_mb": 512, "command_memory_max_mb": None}, 8192)
        1024
        >>> command_memory({"memory_max_mb": 512, "command_memory_max_mb": None}, 1024)
        512
    """
    own = int(settings["memory_max_mb"])
    return int(settings["command_memory_max_mb"] or max(own, min(max(2 * own, 1024), host_mb // 2)))


def why_ended(app: str, settings: dict[str, Any], host_mb: int, result: str) -> str:
    """Return which of its bounds ended a one-off command, and what to do; nothing when none did.

    Args:
        app: the app's name.
        settings: as for ``command_memory``.
        host_mb: the host's memory, in MiB.
        result: systemd's word for its end.

    Example:
        >>> why_ended("demo", {"memory_max_mb": 512, "command_memory_max_mb": 700}, 8192, "oom-kill")
        'it was killed at its memory bound of 700 MiB; raise command_memory_max_mb in apps/demo.yaml'
        >>> why_ended("demo", {}, 8192, "exit-code")
        ''
    """
    if result == "oom-kill":
        most = command_memory(settings, host_mb)
        return f"it was killed at its memory bound of {most} MiB; raise command_memory_max_mb in apps/{app}.yaml"
    return f"it was not done after {COMMAND_SECONDS} seconds, and ended" if result == "timeout" else ""


def bounds(memory_mb: int) -> list[str]:
    """Return the directives of systemd that bound what a unit of an app takes of the host's memory and of its tables.

    Args:
        memory_mb: most memory, in MiB.

    Example:
        >>> bounds(512)[0]
        'MemoryMax=512M'
    """
    return [f"MemoryMax={memory_mb}M", f"TasksMax={TASKS}", "LimitNOFILE=65536"]


def manage_arguments(app: str, release: str, settings: dict[str, Any]) -> list[str]:
    """Return what the release's Python is given to run a management command, before the command's own name.

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


def sandbox(app: str, settings: dict[str, Any]) -> list[str]:
    """Return the directives of systemd that every process of an app has: its user, what it sees, what it may do.

    Args:
        app: the app's name.
        settings: the app's settings from the pillar: user, media_url, tmp_max_mb, log_lines_max.

    Example:
        >>> app = {"user": "app-demo", "media_url": None, "tmp_max_mb": 256, "log_lines_max": 3000}
        >>> sandbox("demo", app)[:2]
        ['User=app-demo', 'Group=app-demo']
    """
    own = [DATA / app, *([APPS / app / "media"] if settings["media_url"] else [])]
    own_text = " ".join(map(str, own))
    return [
        f"User={settings['user']}",
        f"Group={settings['user']}",
        held_by_the_firewall(app),
        *SANDBOX,
        # Its own, in memory and bounded: on the host's disk, or in the host's tmpfs, it would leave no room to others.
        *(f"{place},size={settings['tmp_max_mb']}M,nr_inodes=64k" for place in TEMPORARY),
        f"LogRateLimitIntervalSec={LOG_SECONDS}s",
        f"LogRateLimitBurst={settings['log_lines_max']}",
        # Its account has no home (account.py), and most programs want one to write to.
        f"Environment=HOME={DATA / app}",
        f"BindReadOnlyPaths={APPS / app / 'releases'}",
        f"BindPaths={own_text}",
        f"ReadWritePaths={own_text}",
    ]


def held_by_the_firewall(app: str) -> str:
    """Return the directive that starts nothing where the kernel has no rules for what the app may call.

    At boot, or when somebody flushed them. It runs as root, before the process and outside of its sandbox.

    Args:
        app: the app's name.

    Example:
        >>> held_by_the_firewall("web-shop")
        "ExecStartPre=+/bin/sh -c '/usr/sbin/nft list chain inet saltern calls_web_shop >/dev/null'"
    """
    chain = f"calls_{app.replace('-', '_')}"  # as egressrules.py names it
    return f"ExecStartPre=+/bin/sh -c '/usr/sbin/nft list chain inet saltern {chain} >/dev/null'"


def is_ours(text: str) -> bool:
    """Return whether a unit was written by ``unit_text``.

    Args:
        text: the unit.

    Example:
        >>> is_ours("[Service]")
        False
    """
    return text.startswith(MARK)
