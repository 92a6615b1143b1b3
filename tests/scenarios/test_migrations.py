"""Migrations hurt nobody: unsafe ones are refused, locks are waited for briefly, and what was killed is done again."""

from __future__ import annotations

import contextlib
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import yaml

from lab.apply import Outcome, apply, explain
from lab.host import Host
from lab.lab import Lab
from lab.load import Load
from lab.served import ca_file, pages

pytestmark = pytest.mark.slow("bookworm")

LOCK_TIMEOUT = 2  # seconds, saltern/migrate/migraterun.py
MIGRATE = "app-demo-migrate.service"
COPY = "/srv/demo-of-test-migrations"
END_READER = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; SELECT count%'"
HEAD = "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n"

ADD = 'migrations.AddField("note", "mood", models.CharField(max_length=10, null=True))'
SLOW = 'migrations.RunSQL("SELECT pg_sleep(5)", "SELECT 1")'
DROP = 'migrations.RemoveField("note", "text")'
REQUIRED = 'migrations.AddField("note", "mood", models.CharField(max_length=10, default="calm"))'
RENAME = 'migrations.RenameField("note", "text", "body")'
INDEX = (
    "__import__('django.contrib.postgres.operations', fromlist=['x'])"
    '.AddIndexConcurrently("note", models.Index(fields=["author"], name="notes_author"))'
)


class Project:
    """A copy of the demo, deployed in its place."""

    def __init__(self, lab: Lab, host: Host) -> None:
        self.file, self.host = lab.site / "apps/demo.yaml", host
        self.before = self.file.read_text()
        host.execute(["sh", "-c", f"rm -rf {COPY} && cp -r /srv/saltern/demo {COPY}"])

    def settings(self, **migrations: object) -> None:
        site = yaml.safe_load(self.before) | {"source": {"directory": COPY}, "migrations": migrations}
        self.file.write_text(
            yaml.safe_dump(site | {"processes": {}, "timers": {}})
        )  # those have a scenario of their own

    def migration(self, name: str, *operations: str, after: str = "0001_initial", atomic: bool = True) -> None:
        text = f"{HEAD}    atomic = {atomic}\n    dependencies = [('notes', '{after}')]\n"
        text += (
            f"    operations = [{', '.join(operations)}]\n# {uuid.uuid4()}, so that each test has a build of its own\n"
        )
        self.host.execute(["sh", "-c", f"cat > {COPY}/notes/migrations/{name}.py"], stdin=text)

    def sql(self, query: str) -> str:
        psql = ["runuser", "-u", "postgres", "--", "psql", "-XAt", "-d", "demo", "-c", query]
        return self.host.execute(psql, capture=True).stdout.strip()

    def columns(self) -> set[str]:
        return set(
            self.sql(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'public.notes_note'::regclass AND attnum > 0"
            ).split()
        )

    def serving(self) -> str:
        return self.host.execute(["readlink", "/srv/apps/demo/current.sock"], capture=True).stdout.strip()

    def reset(self) -> None:
        """Source, settings, what serves and the database as before any test."""
        self.settings(retry_seconds=60)
        self.host.execute(["sh", "-c", f"rm -f {COPY}/notes/migrations/0002_*"])
        self._deploy()

    def put_back(self) -> None:
        self.file.write_text(self.before)
        self._deploy()
        self.host.execute(["rm", "-rf", COPY])

    def _deploy(self) -> None:
        outcome = apply(self.host)
        assert outcome.ok, explain(outcome)
        # Afterwards: a release that knows these migrations and lacks them would tell the edge that it is ill.
        self.sql("DROP INDEX IF EXISTS public.notes_author; ALTER TABLE public.notes_note DROP COLUMN IF EXISTS mood")
        self.sql("DELETE FROM public.django_migrations WHERE app = 'notes' AND name <> '0001_initial'")


@pytest.fixture(scope="module")
def copy(lab: Lab, one: Host) -> Iterator[Project]:
    """The demo from a directory of its own; put back at the end."""
    made = Project(lab, one)
    try:
        yield made
    finally:
        made.put_back()


@pytest.fixture
def project(copy: Project) -> Project:
    """The copy as it was, deployed, for a test to change."""
    copy.reset()
    return copy


@contextlib.contextmanager
def reader(host: Host, seconds: int) -> Iterator[None]:
    """Somebody who has read the notes in a transaction that goes on, as a report or pg_dump does."""
    query = f"BEGIN; SELECT count(*) FROM public.notes_note; SELECT pg_sleep({seconds})"
    psql = ["runuser", "-u", "postgres", "--", "psql", "-XAt", "-d", "demo", "-c", query]
    process = subprocess.Popen(host.argv(psql), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait(lambda: query_count(host, "pg_sleep") == 1, 10)
        yield
    finally:
        host.execute(["runuser", "-u", "postgres", "--", "psql", "-XAt", "-c", END_READER], capture=True)
        process.wait(30)


def query_count(host: Host, text: str) -> int:
    query = f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{text}%' AND pid <> pg_backend_pid()"
    psql = ["runuser", "-u", "postgres", "--", "psql", "-XAt", "-c", query]
    return int(host.execute(psql, capture=True).stdout)


def wait(until, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def visitors(lab: Lab, number: int = 2) -> Load:
    """Clients that read the notes over HTTPS, through HAProxy, each time on a connection of their own."""
    return Load(pages(lab.site)[0], ca_file(lab.site), {"get, new connection": number})


def longest(load: Load) -> float:
    """Seconds that the slowest answer took; all of them were good."""
    assert load.answers and not load.failures, load.failures[:5]
    return max(answer.seconds for answer in load.answers)


def begin_apply(host: Host) -> Future[Outcome]:
    """Apply in a thread; answers what it will have come to."""
    pool = ThreadPoolExecutor(1)
    begun = pool.submit(apply, host)
    pool.shutdown(wait=False)
    return begun


def comment(outcome: Outcome) -> str:
    assert not outcome.ok and outcome.failed, outcome.errors
    return str(outcome.failed[0]["comment"])


@pytest.mark.parametrize(
    "operation, rule",
    [(DROP, "ban-drop-column"), (REQUIRED, "ban-drop-default"), (RENAME, "renaming-column")],
    ids=["drop", "required", "rename"],
)
def test_an_unsafe_migration_is_refused_by_name_and_the_old_release_serves(
    lab: Lab, project: Project, one: Host, operation: str, rule: str
) -> None:
    serving, columns = project.serving(), project.columns()
    project.migration("0002_unsafe", operation)
    load = visitors(lab)
    with load.running():
        said = comment(apply(one))
    assert "notes.0002_unsafe" in said and rule in said and "allow_unsafe: [notes.0002_unsafe]" in said
    assert project.serving() == serving and project.columns() == columns
    assert load.answers and not load.failures


def test_a_reader_delays_a_migration_but_nobody_else(lab: Lab, project: Project, one: Host) -> None:
    """Requests that queue behind the waiting ALTER TABLE wait for its lock_timeout, and no longer."""
    project.migration("0002_mood", ADD)
    load = visitors(lab, 3)
    with load.running(), reader(one, 120):
        begun = begin_apply(one)
        wait(lambda: query_count(one, "ALTER TABLE%mood") > 0, 60)
        time.sleep(6)  # long enough for a second try
        assert not begun.done() and "mood" not in project.columns()
        project.sql(END_READER)
        outcome = begun.result(120)
    assert outcome.ok, explain(outcome)
    assert "mood" in project.columns()
    assert longest(load) > LOCK_TIMEOUT / 2, "nobody queued, so this proves nothing"
    assert longest(load) < LOCK_TIMEOUT + 1.5
    assert apply(one).changed == []


def test_a_migration_that_gets_no_lock_fails_cleanly_and_the_next_apply_heals(
    lab: Lab, project: Project, one: Host
) -> None:
    project.settings(retry_seconds=3)
    project.migration("0002_mood", ADD)
    serving = project.serving()
    load = visitors(lab)
    with load.running(), reader(one, 120):
        said = comment(apply(one))
    assert "retry_seconds" in said and "undone" in said
    assert project.serving() == serving and "mood" not in project.columns()
    assert load.answers and not load.failures
    healed = apply(one)
    assert healed.ok, explain(healed)
    assert "mood" in project.columns() and project.serving() != serving


@pytest.mark.parametrize("whom", ["salt", "migrate"])
def test_a_migration_that_was_killed_is_done_by_the_next_apply(
    lab: Lab, project: Project, one: Host, whom: str
) -> None:
    project.migration("0002_mood", ADD, SLOW)
    begun = begin_apply(one)
    wait(lambda: query_count(one, "pg_sleep") > 0, 60)
    if whom == "salt":
        found = one.execute(["pgrep", "-f", "salt-call state.apply"], capture=True).stdout.split()
        assert found
        one.execute(["kill", "-KILL", *found])
    else:
        one.execute(["systemctl", "kill", "--signal=KILL", MIGRATE])
    assert not begun.result(60).ok
    healed = apply(one)
    assert healed.ok, explain(healed)
    assert "mood" in project.columns()
    # How commands ended (a word each) stays; what they were given does not.
    find = ["find", "/run/saltern", "-path", "/run/saltern/results", "-prune", "-o", "-not", "-type", "d", "-print"]
    left = one.execute(find, capture=True).stdout
    assert left == "", "the owner's password was left there"
    assert apply(one).changed == []


def test_an_index_is_built_concurrently_beside_a_reader_and_after_a_kill(lab: Lab, project: Project, one: Host) -> None:
    """It waits for old transactions, longer than lock_timeout, and blocks nobody; half of one is built anew."""
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('public.notes_author')"
    project.migration("0002_index", INDEX, atomic=False)
    with reader(one, 120):
        begun = begin_apply(one)
        wait(lambda: project.sql(valid) == "f", 60)
        one.execute(["systemctl", "kill", "--signal=KILL", MIGRATE])
        assert not begun.result(60).ok
        wait(lambda: query_count(one, "CONCURRENTLY") == 0, 15)
        assert project.sql(valid) == "f", "the kill left nothing to heal"
        load = visitors(lab)
        with load.running():
            begun = begin_apply(one)
            wait(lambda: query_count(one, "CONCURRENTLY") > 0, 60)
            time.sleep(LOCK_TIMEOUT + 2)
            assert not begun.done(), "it waits for the reader"
            project.sql(END_READER)
            outcome = begun.result(120)
    assert outcome.ok, explain(outcome)
    assert project.sql(valid) == "t"
    assert longest(load) < LOCK_TIMEOUT


def test_the_app_cannot_change_tables_and_does_not_know_who_can(lab: Lab, one: Host) -> None:
    release = one.execute(["readlink", "/srv/apps/demo/current.sock"], capture=True).stdout.strip()
    env = f"/srv/apps/demo/releases/{release.rpartition('/')[2].removesuffix('.sock')}/env"
    url = one.execute(["sed", "-n", 's/^DATABASE_URL="\\(.*\\)"$/\\1/p', env], capture=True).stdout.strip()
    assert url.startswith("postgres://demo:")
    tries = {
        "SELECT count(*) FROM notes_note": True,
        "CREATE TABLE mine (id int)": False,
        "CREATE TEMPORARY TABLE mine (id int)": False,
        "CREATE SCHEMA mine": False,
        "ALTER TABLE notes_note ADD COLUMN mine int": False,
        "TRUNCATE notes_note": False,
        "DROP TABLE notes_note": False,
        "SET ROLE demo_owner": False,
    }
    for query, allowed in tries.items():
        done = one.execute(["sh", "-c", 'psql -X "$(cat)" -c "$0"', query], stdin=url, capture=True)
        assert (done.returncode == 0) is allowed, f"{query}: {done.stdout}{done.stderr}"
    password = yaml.safe_load((lab.site / "secrets/shared.yaml").read_text())["apps"]["demo"]["owner_password"]
    search = "grep -lsFf - --binary-files=text"
    command = f"{search} $(for pid in $(pgrep -u app-demo); do echo /proc/$pid/environ; done)"
    assert one.execute(["pgrep", "-u", "app-demo"], capture=True).stdout
    assert one.execute(["sh", "-c", command], stdin=password, capture=True).stdout == ""
    found = one.execute(["sh", "-c", f"{search} -r /srv/apps /run"], stdin=password, capture=True)
    assert found.stdout == ""


def test_a_database_from_before_there_were_two_roles_is_moved_over_while_it_serves(lab: Lab, one: Host) -> None:
    healed = apply(one)  # what the tests before have left
    assert healed.ok, explain(healed)
    back = "ALTER DATABASE demo OWNER TO demo; REASSIGN OWNED BY demo_owner TO demo; DROP OWNED BY demo_owner"
    psql = ["runuser", "-u", "postgres", "--", "psql", "-XAt", "-d", "demo", "-v", "ON_ERROR_STOP=1", "-c"]
    for query in (back, "DROP ROLE demo_owner"):
        assert one.execute([*psql, query], capture=True).returncode == 0
    load = visitors(lab)
    with load.running():
        planned = apply(one, plan=True)
        moved = apply(one)
    assert moved.ok, explain(moved)
    assert planned.changed == moved.changed == ["databases"]
    assert load.answers and not load.failures
    assert apply(one).changed == []
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert one.execute([*psql, owners], capture=True).stdout.strip() == "demo_owner"
