"""Deploys of a lab's demo, good and bad ones, for the tests and for bench/deploys.py.

The lab's app is pointed at a copy of the demo inside the lab's own site, which is then edited as a developer would.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from debian import REPOSITORY
from lab.apply import Outcome, apply
from lab.host import Host
from lab.images import REPOSITORY_ON_HOST
from lab.lab import Lab

# What a bad release does, as (file, the text that it is added to or put in the place of, the new text).
BAD = {
    "does not start": ("demo/wsgi.py", None, '\nraise RuntimeError("broken on purpose: does not start")\n'),
    "answers 500": (
        "demo/views.py", "    checks = run_checks()\n", '    raise RuntimeError("broken on purpose: answers 500")\n',
    ),
    "wrong version": ("demo/views.py", '{"release": settings.RELEASE_ID, "commit"', '{"release": "other", "commit"'),
    "too slow": (
        "demo/views.py", "    checks = run_checks()\n", '    __import__("time").sleep(7)\n    checks = run_checks()\n',
    ),
    "crash loop": ("demo/wsgi.py", None, '\nimport os\nprint("broken on purpose: crash loop")\nos._exit(1)\n'),
}  # fmt: skip
MIGRATION = """from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("notes", "0001_initial")]
    operations = [migrations.AlterModelOptions("note", {"ordering": ["-created"]})]
"""
AFTER_IT_BROKE = "broken on purpose"


class Demo:
    """The lab's copy of the demo, and the host that builds and serves it."""

    def __init__(self, lab: Lab, host: Host):
        self.folder, self.host, self.number = lab.site / "sources/demo", host, 0
        self.settings = lab.site / "apps/demo.yaml"

    def change(self, migration: bool = False) -> None:
        """Change code and a style sheet, as any deploy does.

        Args:
            migration: bring one that the database does not have yet, and that older releases bear.
        """
        self.number += 1
        self._reset()
        stamp = f"change {self.number} of {uuid.uuid4().hex}"
        if migration:
            self._write(f"notes/migrations/0002_{stamp[-8:]}.py", MIGRATION)
        self._add("demo/views.py", f"\n# {stamp}\n")
        self._add("notes/static/notes/site.css", f"\n/* {stamp} */\n")

    def change_environment(self) -> None:
        """Change a variable: another release of the same build."""
        found = yaml.safe_load(self.settings.read_text())
        found["env"] = found.get("env", {}) | {"CHANGE": uuid.uuid4().hex}
        self.settings.write_text(yaml.safe_dump(found))

    def break_it(self, how: str) -> None:
        """Change the code so that it is a release that must not get traffic.

        Args:
            how: a key of BAD.
        """
        self.change()
        name, old, new = BAD[how]
        if old is None:
            self._add(name, new)
            return
        text = (self.folder / name).read_text()
        assert old in text, f"{name} has changed: lab/deploys.py must follow"
        self._write(name, text.replace(old, new))

    def deploy(self, kill_at: str = "") -> Outcome:
        """Apply all states.

        Args:
            kill_at: a step of saltern/release/steps.py at which Salt ends.
        """
        return apply(self.host, environment={"SALTERN_KILL_AT": kill_at} if kill_at else {})

    def call(self, function: str, *arguments: str) -> object:
        """Run an execution function of the release module for the demo and return its answer.

        Raises:
            RuntimeError: it failed; with what it printed.
        """
        command = ["salt-call", "--out=json", f"release.{function}", "demo", *arguments]
        done = self.host.execute(command, capture=True, cwd=str(REPOSITORY_ON_HOST))
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return json.loads(done.stdout)["local"]

    def notes(self, run: str) -> list[str]:
        """Return the texts of the notes that one run of lab/load.py wrote."""
        query = f"SELECT text FROM public.notes_note WHERE pg_catalog.starts_with(text, '{run} ')"  # noqa: S608  run is ours, hex digits
        command = ["runuser", "-u", "postgres", "--", "psql", "-XAtd", "demo", "-c", query]
        return self.host.execute(command, capture=True).stdout.splitlines()

    def active(self) -> str:
        """Return the id of the release that has the traffic, as the link itself says."""
        link = self.host.execute(["readlink", "/srv/apps/demo/current.sock"], capture=True).stdout
        return Path(link.strip()).stem

    def _reset(self) -> None:
        for path in (self.folder / "notes/migrations").glob("0002_*.py"):
            path.unlink()
        for name in {"demo/views.py", "notes/static/notes/site.css", *(name for name, _, _ in BAD.values())}:
            self._write(name, (REPOSITORY / "demo" / name).read_text())

    def _add(self, name: str, text: str) -> None:
        self._write(name, (self.folder / name).read_text() + text)

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)


@contextmanager
def copied(demo: Demo, serve_again: Callable[[], None], **site: object) -> Iterator[None]:
    """Point the lab's app at a copy of the demo that may be changed; afterwards at what it was before.

    Args:
        demo: whose folder becomes the copy.
        serve_again: called when the app's file is as it was, and before the copy goes.
        site: keys of the app's file that are to be different meanwhile.
    """
    before = demo.settings.read_text()
    shutil.rmtree(demo.folder, ignore_errors=True)
    shutil.copytree(REPOSITORY / "demo", demo.folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    inside = Path("site") / demo.folder.relative_to(demo.settings.parents[1])
    demo.settings.write_text(yaml.safe_dump(yaml.safe_load(before) | {"source": {"directory": str(inside)}, **site}))
    try:
        yield
    finally:
        demo.settings.write_text(before)
        try:
            serve_again()
        finally:
            shutil.rmtree(demo.folder.parent)


@contextmanager
def demo_of(lab: Lab, host: Host, log: Callable[[str], None] = lambda line: None, **site: object) -> Iterator[Demo]:
    """Give the lab a demo of its own to deploy; afterwards the lab serves again what its fleet says.

    Args:
        lab: a lab of fleet single.
        host: its only host.
        log: told what is done before and after.
        site: keys of the app's file that are to be different meanwhile.
    """
    demo = Demo(lab, host)

    def serve_again() -> None:
        outcome = apply(host)
        assert outcome.ok, outcome.failed

    with copied(demo, serve_again, **site):
        try:
            demo.call("unpin")
            yield demo
        finally:
            log("the fleet's own demo again")
            demo.call("unpin")
