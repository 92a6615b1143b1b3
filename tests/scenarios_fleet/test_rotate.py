"""Settings and secrets come into force over a whole fleet while visitors ask: none of their requests fails."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import WithRole, wait_for
from test_deploy import builds, serving

from lab import served
from lab.deploys import Demo
from lab.fleetdeploys import Orchestration, call, demo_of, ended, orchestrate, start_orchestration
from lab.host import Host
from lab.images import REPOSITORY_ON_HOST
from lab.lab import Lab
from lab.load import Load

SLOW = pytest.mark.slow("fleet")
OLD_ENVIRONMENT = "/run/rotate-test.env"
TRIES = {
    # libpq knows it by another name.
    "DATABASE_URL": "import psycopg; psycopg.connect(url.replace('postgres:', 'postgresql:', 1)).execute('SELECT 1')",
    "CACHE_URL": "import redis; redis.Redis.from_url(url, ssl_ca_certs='/etc/saltern/tls/ca.crt').ping()",
}


@pytest.fixture(scope="module")
def demo(lab: Lab) -> Iterator[Demo]:
    with demo_of(lab) as found:
        yield found


@pytest.fixture(scope="module")
def writes(master: Host) -> Iterator[None]:
    """The master may write to the site, as on a server, where it stands on the master itself."""
    site = f"{REPOSITORY_ON_HOST}/site"
    master.execute(["mount", "-o", "remount,bind,rw", site])
    yield
    master.execute(["mount", "-o", "remount,bind,ro", site])


def sh(host: Host, command: str) -> str:
    done = host.execute(["sh", "-c", command], capture=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def keep_environment(web: Host) -> None:
    release = "$(basename $(readlink /srv/apps/demo/current.sock) .sock)"
    sh(web, f"umask 077; cat /srv/apps/demo/releases/{release}/env > {OLD_ENVIRONMENT}")


def is_let_in(web: Host, variable: str) -> bool:
    """Whether the old URL in a variable is let in by its daemon, from the app's own place in the firewall."""
    python = "/srv/apps/demo/releases/$(basename $(readlink /srv/apps/demo/current.sock) .sock)/venv/bin/python"
    script = "import sys, re; url = dict(re.findall(r'^([^=]+)=\"(.*)\"$', sys.stdin.read(), re.M))[sys.argv[1]]; "
    command = f"{python} -c {shlex.quote(script + TRIES[variable])} {variable} < {OLD_ENVIRONMENT}"
    return web.execute(["sh", "-c", command], capture=True).returncode == 0


def shared(lab: Lab) -> dict[str, Any]:
    return dict(yaml.safe_load((lab.site / "secrets/shared.yaml").read_text()))


def generated_and_applied(master: Host) -> Orchestration:
    sh(master, f"cd {REPOSITORY_ON_HOST} && salt-call site.generate_secrets")
    done = orchestrate(master, "orch.apply")
    assert done.exit_code == 0, done.text[-4000:]
    return done


def begun(master: Host, **what: Any) -> Future[Orchestration]:
    """Begin a rotation; what it prints is read while it runs, or it would wait for that."""
    process, found = start_orchestration(master, "orch.rotate", **what), Future[Orchestration]()
    threading.Thread(target=lambda: found.set_result(ended(process)), daemon=True).start()
    return found


def rotated(master: Host, **what: Any) -> Orchestration:
    done = orchestrate(master, "orch.rotate", **what)
    assert done.exit_code == 0, done.text[-4000:]
    return done


@SLOW
def test_after_a_rollback_settings_come_to_what_serves(
    demo: Demo, master: Host, with_role: WithRole, load: Load
) -> None:
    """Also when the same deploy was given twice, which is the cure for one that was killed."""
    build = builds(with_role)
    demo.change()
    for _ in range(2):
        assert orchestrate(master, "orch.deploy", app="demo").exit_code == 0
    assert builds(with_role) != build
    assert orchestrate(master, "orch.rollback", app="demo").exit_code == 0
    assert builds(with_role) == build
    before = serving(with_role)
    demo.change_environment()
    done = orchestrate(master, "orch.deploy", app="demo", build="same")
    assert done.exit_code == 0, done.text
    assert builds(with_role) == build and serving(with_role).isdisjoint(before)


@SLOW
@pytest.mark.parametrize(
    ("kind", "variable"), [("database", "DATABASE_URL"), ("redis", "CACHE_URL"), ("owner", None), ("secret_key", None)]
)
def test_an_apps_secret_is_replaced_and_no_request_is_lost(
    demo: Demo, lab: Lab, master: Host, writes: None, with_role: WithRole, load: Load, kind: str, variable: str | None
) -> None:
    web, build = with_role("web")[0], builds(with_role)
    keep_environment(web)
    assert variable is None or is_let_in(web, variable), "else that it is refused later proves nothing"
    demo.change()  # is nobody's business here
    rotated(master, app="demo", secret=kind, finish=True)
    assert "previous" not in shared(lab)["apps"]["demo"] and "ending" not in shared(lab)["apps"]["demo"]
    assert builds(with_role) == build and len(serving(with_role)) == 1
    assert variable is None or not is_let_in(web, variable), "the old one is good still"


@SLOW
@pytest.mark.parametrize("kind", ["replication", "build_key", "tls", "edge"])
def test_a_secret_of_the_fleet_is_replaced_and_no_request_is_lost(
    demo: Demo, lab: Lab, master: Host, writes: None, with_role: WithRole, load: Load, kind: str
) -> None:
    if kind == "replication" and not any("replica_of" in host for host in lab.fleet["hosts"].values()):
        pytest.skip("the fleet has no replica")
    before = serving(with_role)
    rotated(master, secret=kind)
    assert "previous" not in shared(lab) and serving(with_role) == before
    if kind == "build_key":  # hosts have the build by the old signature
        demo.change_environment()
        done = orchestrate(master, "orch.deploy", app="demo", build="same")
        assert done.exit_code == 0, done.text[-4000:]


@SLOW
def test_the_authority_is_replaced_and_no_request_is_lost(
    demo: Demo, lab: Lab, master: Host, writes: None, with_role: WithRole, load: Load
) -> None:
    """Visitors are told of the new one while both are trusted, as browsers are."""
    old = (lab.site / "secrets/ca/ca.crt").read_text()
    running = begun(master, secret="ca")
    following = lab.site / "secrets/ca.next/ca.crt"
    wait_for("the next authority", lambda: following.exists() or running.done(), 60)
    load.context.load_verify_locations(following)
    done = running.result()
    assert done.exit_code == 0, done.text[-4000:]
    new = (lab.site / "secrets/ca/ca.crt").read_text()
    assert new != old
    for host in lab.hosts():
        assert sh(host, "cat /etc/saltern/tls/ca.crt") == new


@contextmanager
def told(secrets: Path, load: Load) -> Iterator[None]:
    """Visitors hear of each authority once the site has its certificate: a killed rotation may make several."""
    done = threading.Event()

    def tell() -> None:
        known: set[str] = set()
        while not done.wait(0.1):
            for path in secrets.glob("ca*/ca.crt"):
                with suppress(OSError):  # renamed meanwhile
                    text = path.read_text()
                    if text.endswith("-----END CERTIFICATE-----\n") and text not in known:
                        load.context.load_verify_locations(cadata=text)
                        known.add(text)

    telling = threading.Thread(target=tell)
    telling.start()
    try:
        yield
    finally:
        done.set()
        telling.join()


@SLOW
@pytest.mark.parametrize("words", [{"app": "demo", "secret": "database"}, {"secret": "ca"}], ids=["database", "ca"])
def test_a_rotation_that_is_killed_goes_on(
    demo: Demo, lab: Lab, master: Host, writes: None, with_role: WithRole, words: dict[str, str], load: Load
) -> None:
    """By SIGKILL to salt-run, each time that the site's files have changed."""
    secrets = lab.site / "secrets"
    state = lambda: (  # noqa: E731
        [path.name for path in sorted(secrets.glob("ca*"))],
        shared(lab)["apps"]["demo"].get("previous") is None,
        shared(lab)["apps"]["demo"].get("ending"),
    )
    killed = 0
    with told(secrets, load):
        while killed < 4:
            before = state()
            running = begun(master, **words)
            wait_for("the next move", lambda: state() != before or running.done(), 600)  # noqa: B023
            if running.done():
                assert running.result().exit_code == 0, running.result().text[-4000:]
                break
            time.sleep(killed * 2)
            master.execute(["pkill", "-9", "-f", "[s]alt-run state.orchestrate orch.rotate"])
            running.result()
            killed += 1
            time.sleep(5)  # what hosts were told goes on
        else:
            rotated(master, **words)
    assert killed >= 2
    assert shared(lab)["apps"]["demo"].keys() & {"previous", "ending"} == set()
    assert [path.name for path in secrets.glob("ca*")] == ["ca"]


@SLOW
def test_a_password_changed_by_hand_and_a_variable_come_into_force(
    demo: Demo, lab: Lab, master: Host, writes: None, with_role: WithRole, load: Load
) -> None:
    """Every "..., then apply" of docs/secrets.md and docs/site.md, as it is written there for a fleet."""
    path = lab.site / "secrets/shared.yaml"
    data = shared(lab)
    data["apps"]["demo"] |= {"database_password": "a-word-of-my-own-1", "env": {"TOKEN": "a-word-of-my-own-2"}}
    path.write_text(yaml.safe_dump(data))
    waits = generated_and_applied(master).text
    assert "demo serves with settings of before" in waits
    assert orchestrate(master, "orch.deploy", app="demo", build="same").exit_code == 0
    rotated(master, app="demo", secret="database")
    for host in [*with_role("web"), *with_role("worker")]:
        release = serving(with_role).copy().pop()
        assert "a-word-of-my-own-2" in sh(host, f"cat /srv/apps/demo/releases/{release}/env")
    plan = orchestrate(master, "orch.apply", plan=True)
    assert plan.exit_code == 0 and all(call(host, "needs.kept") == [] for host in with_role("web"))


@SLOW
def test_a_host_name_more_comes_into_force(
    demo: Demo, lab: Lab, master: Host, writes: None, with_role: WithRole, load: Load
) -> None:
    """Certificates of the edges, what they pass on, and what the app is told of its names."""
    text = demo.settings.read_text()
    found = yaml.safe_load(text)
    name = f"second.{lab.fleet['domain']}"
    try:
        demo.settings.write_text(yaml.safe_dump(found | {"hostnames": [*found["hostnames"], name]}))
        generated_and_applied(master)
        assert orchestrate(master, "orch.deploy", app="demo", build="same").exit_code == 0
        page = served.Page(name, load.page.address, load.page.port)
        assert served.get(page, served.ca_file(lab.site))[0] == 200
    finally:
        demo.settings.write_text(text)
        generated_and_applied(master)
        assert orchestrate(master, "orch.deploy", app="demo", build="same").exit_code == 0
