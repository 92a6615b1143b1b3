"""How releases come onto a host: the app's unit, and each release's own directory, which nothing changes later."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.build import delivery, store
from saltern.host import appfiles, beneath, places, sandbox, secrettext
from saltern.host.here import Here
from saltern.release import (
    applock,
    appunits,
    choice,
    deciding,
    envfile,
    installed,
    instances,
    ledger,
    oneoff,
    releases,
    rollback,
    steps,
)

STAGE_SECONDS = 5400  # of holding the deploy lock: installing, and starting Django once (one_off's own limit)
LATE = ("nice", "-n", "19")  # who is being served on this host comes first
# Bounds of an installation; STAGE_SECONDS holds it and the first start of Django.
INSTALL_SECONDS, MEMORY_MB, DISK_MB, FILE_MB = 1800, 2048, 8192, 4096
# Runs in a sandbox as a user who owns nothing else, without network: wheels are unpacked, and an interpreter of the new
# environment starts, which runs what .pth files of the packages say. Arguments: the release, Python, and uv where the
# environment is not taken from another release.
INSTALL = """
release=$1 python=$2 uv=$3 build=$1/.work
tar --extract --gzip --no-same-owner --warning=no-timestamp --file "$build/src.tar.gz" --directory "$release/src"
if [ -n "$uv" ]; then
    quiet="--quiet --no-config --offline --no-python-downloads --no-cache"
    "$uv" venv $quiet --no-project --allow-existing --python "$python" "$release/venv"
    "$uv" pip install $quiet --python "$release/venv/bin/python" --no-index --find-links "$build/wheels" \\
        --require-hashes --no-deps --no-build --link-mode copy --compile-bytecode \\
        --requirements "$build/requirements.txt"
fi
"$python" -I -m compileall -q -j 0 "$release/src"
"""
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


def unit_files(here: Here, app: str) -> dict[str, str]:
    """Return the files that make systemd know an app: texts by path."""
    settings = here.app(app)
    return {
        str(places.UNITS / f"app-{app}@.service"): appunits.unit_text(app, settings),
        str(places.TMPFILES / f"app-{app}.conf"): appunits.tmpfiles_text(app, settings),
    }


def write_unit_files(here: Here, app: str) -> None:
    """Write the unit and the tmpfiles.d entry of an app, and make the directory of its sockets now.

    A changed unit is a new release, so nothing has to be restarted here.
    """
    for path, text in unit_files(here, app).items():
        appfiles.write(path, text, 0o644)
    appfiles.run(["systemd-tmpfiles", "--create", str(places.TMPFILES / f"app-{app}.conf")])
    instances.reload()


def stage(here: Here, app: str, wanted: choice.Wanted | None = None) -> dict[str, Any]:
    """Install a release beside the others: source, virtual environment, environment, gunicorn's settings.

    It is installed at its final path, because a virtual environment cannot be moved, and counts as installed when
    its manifest.json is there, which is written last. Only the build's own files are read; no index is asked.
    """
    wanted = wanted or deciding.desired(here, app)
    release = wanted["id"]
    directory = Path(installed.directory(app, release))
    reached = steps.reached
    lock = applock.hold(places.APPS / app / ".lock", f"installing {release}", STAGE_SECONDS)
    with lock as still_held, _readable_to_all():
        if installed.is_staged(app, release):
            about: dict[str, Any] = installed.manifest(app, release)
            return about
        if not here.has("builder"):
            delivery.fetch(here, app, wanted["build"])
        build = store.verify(here, app, wanted["build"])
        if not Path(f"/usr/bin/python{build['python']}").exists():
            raise CommandExecutionError(
                f"build {build['id']} of {app} is for Python {build['python']} of Debian {build['debian']}, which this "
                "host has not: the builder's Debian must be that of the web hosts"
            )
        halves = _half_staged(app)
        if halves:  # an installer that has outlived its Salt would write on
            sandbox.end(sandbox_name(app))
        for half in halves:
            shutil.rmtree(half)
        directory.mkdir(mode=0o755)
        reached("directory made")
        # Their hashes, and the Python that they were installed for.
        packages = f"{build['files']['requirements.txt']} {build['python']}"
        _install(app, directory, Path(store.directory(app, wanted["build"])), packages)
        _configure(here, app, release, build["commit"])
        reached("settings written")
        found = {
            "id": release,
            "app": app,
            "build": wanted["build"],
            "commit": build["commit"],
            "packages": packages,
            **ledger.stamp(),
            "django": _ask_django(here, app, release),
        }
        reached("Django asked")
        # The manifest says that all of it is there; so must the disk, even after a power cut.
        appfiles.run(["sync", "--file-system", str(directory)])
        still_held()
        appfiles.write(directory / "manifest.json", json.dumps(found, indent=1) + "\n", 0o644)
        reached("installed")
        return found


def _half_staged(app: str) -> list[Path]:
    """Return directories of installations that were killed; called with the lock held, so nobody is at work in them."""
    there = (path for path in (places.APPS / app / "releases").iterdir() if path.is_dir())
    return [path for path in there if not (path / "manifest.json").is_file()]


@contextlib.contextmanager
def _readable_to_all() -> Iterator[None]:
    """Let the app read what root installs, whatever umask root has; who gets there is decided by releases/."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _install(app: str, directory: Path, build: Path, packages: str) -> None:
    """Bring source and packages into the release's directory: by nobody who could do anything else, then root's."""
    reached = steps.reached
    python, work = f"/usr/bin/python{packages.split()[1]}", directory / ".work"
    filled = [directory / "src", work]
    if twin := _with_the_same(app, packages):
        _link_environment(twin, directory)
    else:
        filled.append(directory / "venv")
    for path in filled:
        path.mkdir(mode=0o700)
    _hand_over(build, work, wheels=not twin)
    for path in filled:
        shutil.chown(path, installer(app), installer(app))
    uv = "" if twin else os.path.realpath(appfiles.uv())
    _run_installer(app, build.name, [str(directory), python, uv], filled)
    try:
        beneath.take_over(directory / "src")
        # Also what was installed before, when this was not looked at.
        own = ("/usr/bin/python3", f"{directory}/venv/", f"{twin}/venv/")
        beneath.take_over(directory / "venv", allowed=own, shared=bool(twin))
    except ValueError as error:
        raise CommandExecutionError(f"{app}: what was installed from build {build.name} is refused: {error}") from None
    shutil.rmtree(work)
    shutil.copy(build / "bom.json", directory / "bom.json")
    reached("packages installed")


def _hand_over(build: Path, work: Path, wheels: bool) -> None:
    """Copy what is installed to where the installer reads it: of the builds themselves it sees nothing."""
    names = ["src.tar.gz", *(["requirements.txt"] if wheels else [])]
    names += [f"wheels/{path.name}" for path in (build / "wheels").iterdir()] if wheels else []
    (work / "wheels").mkdir(mode=0o755)
    for name in names:
        shutil.copyfile(build / name, work / name)
        (work / name).chmod(0o644)


def _run_installer(app: str, build: str, arguments: list[str], writes: list[Path]) -> None:
    directory, _, uv = arguments
    sandbox.run(
        sandbox_name(app),
        ["/bin/sh", "-euc", INSTALL, "install", *arguments],
        what=f"{app}: installing build {build}",
        user=installer(app),
        group=installer(app),
        reads=[uv] if uv else [],
        writes=[str(path) for path in writes],
        disk=(directory, DISK_MB),
        file_mb=FILE_MB,
        memory_mb=MEMORY_MB,
        seconds=INSTALL_SECONDS,
        nice=19,  # who is being served on this host comes first
        environment={"HOME": f"{directory}/.work", "TMPDIR": f"{directory}/.work", "LC_ALL": "C.UTF-8"},
    )


def sandbox_name(app: str) -> str:
    """Return the name of the sandbox that releases of an app are installed in.

    Args:
        app: name of an app.

    Example:
        >>> sandbox_name("demo")
        'install-demo'
    """
    return f"install-{app}"


def installer(app: str) -> str:
    """Return the account that releases of an app are installed by: neither root, nor who runs them, nor who builds.

    Args:
        app: name of an app.

    Example:
        >>> installer("demo")
        'pkg-demo'
    """
    return f"pkg-{app}"


def _with_the_same(app: str, packages: str) -> Path | None:
    """Return the directory of an installed release that has the same packages."""
    found = [one["id"] for one in installed.manifests(app) if one.get("packages") == packages]
    return Path(installed.directory(app, found[0])) if found else None


def _link_environment(twin: Path, directory: Path) -> None:
    """Give each file of a virtual environment a second name: releases are never changed, so they may share files."""
    appfiles.run([*LATE, "cp", "--archive", "--link", f"{twin}/venv", f"{directory}/venv"])
    # Its scripts name their interpreter, and so become files of their own. Compiled files name their source, too, but
    # Python puts that right itself.
    for script in (directory / "venv/bin").iterdir():
        if script.is_symlink() or f"{twin}/".encode() not in (text := script.read_bytes()):
            continue
        mode = script.stat().st_mode
        script.unlink()
        script.write_bytes(text.replace(f"{twin}/".encode(), f"{directory}/".encode()))
        script.chmod(mode)


def _configure(here: Here, app: str, release: str, commit: str) -> None:
    """Write what the release runs with: environment, extra files, gunicorn's settings."""
    settings = here.app(app)
    directory = Path(installed.directory(app, release))
    environment = {
        **releases.environment(here.pillar, app),
        "RELEASE_ID": release,
        "RELEASE_COMMIT": commit,
        "STATIC_ROOT": str(directory / "static"),
    }
    write = appfiles.write
    write(directory / "env", envfile.text(environment), 0o600)
    for path, text in here.pillar["wiring"]["apps"][app]["files"].items():
        try:
            # They may hold secrets, so only root and the app read them.
            beneath.write(directory / "src", path, text, 0o640, group_number(settings["user"]))
        except ValueError as error:
            raise CommandExecutionError(f"apps/{app}.yaml: files: {error}") from None
    write(directory / "gunicorn.conf.py", appunits.gunicorn_conf(app, release, settings), 0o644)


def group_number(name: str) -> int:
    """Return the number of a group.

    Args:
        name: its name.

    Raises:
        CommandExecutionError: there is none.

    Example:
        >>> group_number("root")
        0
    """
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise CommandExecutionError(f"no group {name} on this host") from None


def _ask_django(here: Here, app: str, release: str) -> dict[str, Any]:
    probe = ["-c", rollback.probe() + FACTS]
    answer = oneoff.one_off(here, app, release, "first-start-of-django", probe)
    line = next((line for line in reversed(answer.splitlines()) if line.startswith("SALTERN ")), None)
    if line is None:
        raise CommandExecutionError(f"{app}, release {release}: Django started, but its answer was lost")
    found: dict[str, Any] = secrettext.all_printable(json.loads(line.removeprefix("SALTERN ")))
    return found
