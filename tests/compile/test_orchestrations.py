"""Every orchestration, rendered by Salt for each example fleet with a master: what the hosts answer is played."""

from __future__ import annotations

import ast
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from salt.utils import templates as salt_templates
from stepchecks import ORCHESTRATIONS, must_take, problems

from saltern.orch.fleet import KNOWN
from saltern.site.compiled import fleet_pillar
from saltern.site.fleetrotation import course
from saltern.site.load import Site, load_site
from saltern.site.overlap import KINDS
from saltern.site.rotation import AUTHORITY, CERTIFICATES, RotationError
from saltern.site.secrets import generate_secrets

ROOT = Path(__file__).resolve().parents[2]
FLEETS = [
    path.parent
    for path in sorted((ROOT / "lab/fleets").glob("*/fleet.yaml"))
    if any("master" in host["roles"] for host in yaml.safe_load(path.read_text())["hosts"].values())
]
Answers = dict[str, Any]


class Orchestrations:
    """A site whose hosts answer what they are told to.

    Args:
        site: the checked site, with its secrets.
    """

    def __init__(self, site: Site):
        self.site = site
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {
            "code.digest": lambda host, *_: "same",
            "state.test": lambda host, *_: {},
            "fleet.serves": lambda host, *_: {"now": {"release": "b-1", "build": "b"}},
            "needs.kept": lambda host, *_: [],
            "needs.held": lambda host: {},
            "needs.settling": lambda host, elsewhere: {"going": ["a"], "kept": ["b"], "why": ["c"]},
            "fleet.waiting": lambda host: [],
            "fleet.at_rest": lambda host: True,
            "rotation.course": lambda host, *words, **named: course(site, list(words), **named),
            "saltutil.refresh_pillar": lambda host, *_, **named: True,
            "saltutil.sync_all": lambda host, *_: {},
            "updates.reboot_due": lambda host, *_: "",
            "edge.out": lambda host, *_: [],
        }

    def cmd(
        self,
        targets: list[str],
        function: str,
        arg: list[Any] = (),
        tgt_type: str = "list",
        kwarg: Answers | None = None,
    ) -> Answers:
        """Return as saltutil.cmd does."""
        self.asked.append(function)
        must_take(function, list(arg), kwarg or {})
        found = {}
        for host in targets:
            try:
                found[host] = {"ret": self.answers[function](host, *arg, **(kwarg or {})), "retcode": 0}
            except RotationError as error:
                found[host] = {"ret": f"ERROR: {error}", "retcode": 1}
        return found

    def runner(self, name: str, **_: Any) -> list[str]:
        """Return as saltutil.runner does: all hosts are up."""
        return list(self.site.fleet.hosts)

    def render(self, name: str, **told: Any) -> dict[str, Any]:
        """Render an orchestration; return its steps by name."""
        pillar = fleet_pillar(self.site) | {"code": "same"} | told
        salt = {"saltutil.cmd": self.cmd, "saltutil.runner": self.runner}
        done = salt_templates.py(str(ROOT / f"salt/orch/{name}.sls"), string=True, __pillar__=pillar, __salt__=salt)
        assert done["result"], done["data"]
        return dict(done["data"])


def usual(site: Site) -> Iterator[tuple[str, Answers]]:
    """Everything that an operator may ask of a fleet, but for rotations: each orchestration with all of its words."""
    hosts, minions = site.fleet.hosts, site.fleet.with_role("minion")
    yield "apply", {"hosts": minions[:2], "plan": True}
    yield from [("apply", {}), ("leave_out", {})]
    yield from [("settle", {}), ("settle", {"plan": True})]
    yield "remove_host", {"host": "gone"}
    for app in site.apps:
        yield from [("deploy", {"app": app}), ("deploy", {"app": app, "build": "same"}), ("rollback", {"app": app})]
    for host in minions:
        yield "add_host", {"host": host}
        if {*hosts[host].roles} <= {"base", "minion", "web", "worker"}:
            yield "replace_host", {"host": host}
    for host in site.fleet.with_role("web"):
        for reboot in (True, False, "due"):
            yield "maintenance", {"host": host, "reboot": reboot}


@pytest.fixture(params=FLEETS, ids=lambda path: path.name)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Orchestrations:
    shutil.copytree(request.param, tmp_path / "site")
    site = load_site(tmp_path / "site")
    generate_secrets(site)
    return Orchestrations(site)


def words(site: Site) -> list[dict[str, str]]:
    """All that a site can replace, as an operator says it."""
    found = [{"secret": AUTHORITY}, {"secret": "tls"}]
    if site.apps:
        found += [{"secret": "edge"}, {"secret": "build_key"}]
        found += [{"app": app, "secret": kind.name} for app in site.apps for kind in KINDS if kind.of_app]
    return [*found, *([{"secret": "replication"}] if site.fleet.replicas else [])]


def chained(steps: dict[str, Any]) -> bool:
    """Whether each step but the first waits for the one before."""
    names = list(steps)
    for before, name in itertools.pairwise(names):
        (about,) = steps[name].values()
        if not any(part.get("require") == [{"salt": before}] for part in about):
            return False
    return True


def refused(steps: dict[str, Any]) -> str:
    """Why an orchestration does nothing."""
    (((name, (about,)),),) = [list(step.items()) for step in steps.values()]
    assert name == "test.fail_without_changes" and list(steps) == ["nothing was done"]
    return str(about["comment"])


def test_no_orchestration_names_what_there_is_not(fleet: Orchestrations) -> None:
    """Functions with their arguments, states, requisites, other orchestrations; also what is asked first."""
    fleet.answers |= {"needs.kept": lambda host: ["a", "b"], "updates.reboot_due": lambda host: "kernel"}
    asked = [*usual(fleet.site), *(("rotate", what) for what in words(fleet.site))]
    if fleet.site.apps:
        assert {name for name, _ in asked} == {*ORCHESTRATIONS}, "one that is not asked here"
    for behind in ("same", "other"):
        fleet.answers["code.digest"] = lambda host, code=behind: code
        for name, told in asked:
            steps = fleet.render(name, **told)
            assert [*problems(steps)] == [], (name, told)
            assert "test.fail_without_changes" not in steps.get("nothing was done", {}), (name, told)


WRONG: dict[str, list[tuple[dict[str, Any], str]]] = {
    "apply": [
        ({"hosts": ["nobody"]}, "none of these hosts has role minion: nobody"),
        ({"hosts": ["master", "nobody", 7]}, "none of these hosts has role minion: nobody, 7"),
        ({"hosts": "master"}, "hosts: 'master' is no list"),
        ({"plan": "yes"}, "plan: 'yes' is none; allowed: true, false"),
        ({"host": ["master"]}, "orch.apply has no argument host; allowed: hosts, plan"),
    ],
    "deploy": [
        ({}, "name an app: "),
        ({"app": "nobody"}, "name an app: "),
        ({"app": ["demo"]}, "name an app: "),
        ({"app": None}, "name an app: "),
        ({"app": "demo", "build": "last"}, 'build: "last" is none; allowed: newest (or leave it out), same'),
        ({"app": "demo", "build": ["same"]}, "is none; allowed: newest"),
    ],
    "rollback": [({}, "name an app: "), ({"app": "nobody"}, "name an app: "), ({"app": {}}, "name an app: ")],
    "add_host": [
        ({}, "name a host of the fleet with role minion: "),
        ({"host": "nobody"}, "one of "),
        ({"host": ["master"]}, "name a host"),
        ({"hosts": ["master"]}, "orch.add_host has no argument hosts; allowed: host"),
    ],
    "replace_host": [
        ({}, "name a host of the fleet with role minion: "),
        ({"host": "nobody"}, "name a host"),
        ({"host": "master"}, "orch.replace_host is for hosts that have only web or worker"),
    ],
    "remove_host": [
        ({}, "name the host: "),
        ({"host": "Bad Host"}, "name the host: "),
        ({"host": "gone\n"}, "name the host: "),
        ({"host": 7}, "name the host: "),
        ({"host": "master"}, "master is in site/fleet.yaml: take it out there first"),
    ],
    "maintenance": [
        ({}, "name a web host: "),
        ({"host": "master"}, "name a web host: "),
        ({"host": "nobody"}, "name a web host: "),
        ({"host": ["web1"]}, "name a web host: "),
    ],
    "leave_out": [({"host": "web1"}, "orch.leave_out has no argument host; allowed: app")],
    "settle": [
        ({"plan": "no"}, "plan: 'no' is none; allowed: true, false"),
        ({"app": "demo"}, "orch.settle has no argument app; allowed: plan"),
    ],
    "rotate": [
        ({}, "name a secret: "),
        ({"secret": "nonsense"}, "there is no secret nonsense; there are: "),
        ({"secret": "ca", "finish": "yes"}, "true or false"),
        ({"secrets": "ca"}, "orch.rotate has no argument secrets; allowed: app, secret, force, finish"),
    ],
}


@pytest.mark.parametrize("name", ORCHESTRATIONS)
def test_a_wrong_argument_is_one_sentence_and_nothing_is_done(fleet: Orchestrations, name: str) -> None:
    assert WRONG[name], "say what can be wrong with it"
    for told, words in WRONG[name]:
        said = refused(fleet.render(name, **told))
        assert words in said and "\n" not in said and "Traceback" not in said
        assert not {"saltutil.sync_all", "fleet.at_rest", "state.test"} & {*fleet.asked}


def test_what_was_typed_by_mistake_is_shown_in_one_line_and_cut(fleet: Orchestrations) -> None:
    for name in ORCHESTRATIONS:
        for typed in ("\x1b[2J\n", "x" * 5000, ["a\nb"] * 900, {"{{ 1/0 }}": "\r"}):
            for told in ({"hosts\x1b[2J\n": typed}, {"host": typed, "app": typed}, {"secret": typed}, {"plan": typed}):
                said = refused(fleet.render(name, **told))
                assert said.isprintable() and len(said) < 1100, (name, told)


def test_whether_a_host_is_rebooted_is_said_in_so_many_words(fleet: Orchestrations) -> None:
    """Any word but `due` was a yes."""
    for host in fleet.site.fleet.with_role("web"):
        said = refused(fleet.render("maintenance", host=host, reboot="no"))
        assert said == "reboot: 'no' is none; allowed: true, false, due"
        fleet.answers["updates.reboot_due"] = lambda host: None
        assert "does not say" in refused(fleet.render("maintenance", host=host, reboot="due"))


def test_what_the_master_knows_is_all_that_the_site_tells_it(fleet: Orchestrations) -> None:
    """Whatever else is in its pillar counts as typed."""
    assert {*fleet_pillar(fleet.site), "code"} == {*KNOWN}


@pytest.mark.parametrize("name", ORCHESTRATIONS)
def test_a_file_of_an_orchestration_has_its_help_and_one_call(name: str) -> None:
    """What is decided is in the package, where it is checked."""
    text = (ROOT / f"salt/orch/{name}.sls").read_text()
    tree = ast.parse(text)
    assert text.startswith("#!py\n") and ast.get_docstring(tree)
    _, imported, run = tree.body
    assert ast.unparse(imported) in (f"from saltern.orch import face, {name}", f"from saltern.orch import {name}, face")
    assert ast.unparse(run) == f"def run():\n    return face.rendered({name}, __pillar__, __salt__)"


def test_nothing_of_salts_outlives_a_rendering(fleet: Orchestrations) -> None:
    """Salt keeps the file in sys.modules, with its loaders: they ended with a trace on the operator's screen."""
    for name in ORCHESTRATIONS:
        fleet.render(name)
        assert name not in sys.modules


@pytest.mark.parametrize("place", FLEETS, ids=lambda path: path.name)
def test_salts_own_runner_renders_them_with_the_masters_settings(place: Path, tmp_path: Path) -> None:
    """`salt-run state.orchestrate_show_sls`, with the master.conf of the role: its pillar, its way to the package."""
    shutil.copytree(place, tmp_path / "site")
    site = load_site(tmp_path / "site")
    generate_secrets(site)
    good = list({name: (name, what) for name, what in [*usual(site), ("rotate", {"secret": "tls"})]}.values())
    wrong = [(name, WRONG[name][0][0]) for name in ("apply", "rotate")]
    told = {"repository": str(ROOT), "site": str(tmp_path / "site"), "folder": str(tmp_path), "asked": good + wrong}
    command = [sys.executable, str(Path(__file__).with_name("runner.py"))]
    done = subprocess.run(command, input=json.dumps(told), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    for (name, what), found in zip(good + wrong, json.loads(done.stdout), strict=True):
        assert isinstance(found, dict) and found, (name, what, found)
        refusals = [step for step in found.values() if "fail_without_changes" in step.get("test", [])]
        refusals = [step for step in refusals if not any("onfail" in part for part in step["test"])]
        assert bool(refusals) is ((name, what) in wrong), (name, what, found)


def test_every_secret_has_a_rotation_over_the_fleet(fleet: Orchestrations) -> None:
    kinds = {what["secret"] for what in words(fleet.site)}
    assert not fleet.site.apps or kinds == {*[kind.name for kind in KINDS], AUTHORITY, *CERTIFICATES}
    for what in words(fleet.site):
        steps = fleet.render("rotate", **what)
        assert chained(steps), what
        names = list(steps)
        assert names[0] == "both are written down"
        if "the old one is crossed out" in steps and what["secret"] not in (AUTHORITY, "build_key"):
            assert names.index("nobody uses the old one") < names.index("the old one is crossed out")


def test_a_release_with_settings_alone_is_made_of_what_hosts_say_they_serve(fleet: Orchestrations) -> None:
    for app in fleet.site.apps:
        steps = fleet.render("deploy", app=app, build="same")
        said = {host: {"now": {"release": "b-1", "build": "b"}} for host in fleet.site.fleet.running_apps}
        assert {"arg": [app, said]} in steps["proposed"]["salt.function"]
        assert {"name": "builder.propose_same"} in steps["proposed"]["salt.function"]
        assert {"name": "builder.propose"} in fleet.render("deploy", app=app)["proposed"]["salt.function"]
        assert "allowed: newest" in refused(fleet.render("deploy", app=app, build="old"))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "name a secret"),
        ({"secret": 7}, "name a secret"),
        ({"secret": "ca", "force": "yes"}, "true or false"),
        ({"secret": "nonsense"}, "there is no secret nonsense; there are: "),
        ({"app": "nobody", "secret": "database"}, "there is no secret nobody database; there are: "),
    ],
)
def test_what_cannot_be_replaced_is_told_in_a_sentence_and_nothing_is_asked(
    fleet: Orchestrations, told: Answers, words: str
) -> None:
    assert words in refused(fleet.render("rotate", **told))
    assert not {"state.test", "saltutil.sync_all"} & {*fleet.asked}


def test_it_begins_only_where_an_apply_would_change_nothing_else(fleet: Orchestrations) -> None:
    new = {"__id__": "build of demo", "result": None, "changes": {"new": "b"}}
    fleet.answers["state.test"] = lambda host: {"build_|-build of demo_|-demo_|-present": new}
    if fleet.site.apps:
        assert len(fleet.render("rotate", secret="ca")) > 1, "a new source is built, and given to nobody"
    fleet.answers["state.test"] = lambda host: {"file_|-a_|-a_|-managed": new | {"__id__": "a file"}}
    assert "would change more than the secret (" in refused(fleet.render("rotate", secret="ca"))
    assert "nothing was done" not in fleet.render("rotate", secret="ca", force=True)
    assert "nothing was done" not in fleet.render("rotate", secret="tls"), "by states that change nothing else"


def test_a_release_that_was_killed_goes_on_before_its_hosts_are_applied(fleet: Orchestrations) -> None:
    said = {"now": {"release": "b-2", "build": "b"}, "unconfirmed": True}
    fleet.answers["fleet.serves"] = lambda host, *_: said
    names = list(fleet.render("rotate", secret="ca"))
    assert (names[0] == "the release of demo goes on") is bool(fleet.site.apps)
    said["begun"] = True
    assert next(iter(fleet.render("rotate", secret="ca"))) == "both are written down"


def test_settings_that_wait_for_a_release_are_named_at_the_end(fleet: Orchestrations) -> None:
    fleet.answers["fleet.waiting"] = lambda host: ["demo", "stranger"]
    (_, *waiting) = fleet.render("settle")
    assert len(waiting) == len(fleet.site.fleet.running_apps and fleet.site.apps)
    assert not waiting or """orch.deploy pillar='{"app": "demo", "build": "same"}'""" in waiting[0]
