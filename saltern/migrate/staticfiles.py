"""Static files of a release: collected once, and served beside those of earlier releases."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from saltern.host import appfiles, beneath, places
from saltern.host.here import Here
from saltern.release import appunits, installed, oneoff, steps


def static_missing(app: str, release: str) -> list[str] | None:
    """Compare a release's static files with those that nginx serves."""
    directory = home(app, release)
    try:
        names = json.loads((directory / "static.json").read_text())
    except FileNotFoundError:
        return None
    return [name for name in names if not _same(directory / "static" / name, _served(app) / name)]


def collect_static(here: Here, app: str, release: str) -> None:
    """Collect a release's static files, once, and let nginx serve them beside those of earlier releases."""
    directory = home(app, release)
    if not (directory / "static.json").is_file():
        static = directory / "static"
        shutil.rmtree(static, ignore_errors=True)
        static.mkdir()
        if installed.manifest(app, release)["django"]["static"]:
            settings = here.app(app)
            user = settings["user"]
            shutil.chown(static, user, user)
            manage = appunits.manage_arguments(app, release, settings)
            collect = [*manage, "collectstatic", "--noinput", "--verbosity", "0"]
            oneoff.one_off(here, app, release, "collectstatic", collect, str(static))
        # A link that an app made could lead nginx anywhere.
        names = beneath.take_over(static, drop=True)
        appfiles.write(directory / "static.json", json.dumps(names) + "\n", 0o644)
        steps.reached("static files collected")
    publish_static(app, release)
    steps.reached("static files served")


def publish_static(app: str, release: str) -> None:
    """Give each collected file of a release a second name where nginx serves it; files of other releases stay.

    A second name costs no space, cannot be half written, and tells by its inode which release a file is of.
    """
    directory = home(app, release) / "static"
    for name in static_missing(app, release) or []:
        target = _served(app) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.new")
        beside.unlink(missing_ok=True)
        os.link(directory / name, beside)
        beside.replace(target)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


def home(app: str, release: str) -> Path:
    return places.APPS / app / "releases" / release


def _served(app: str) -> Path:
    return places.APPS / app / "static"
