"""Every orchestration, rendered by Salt for each example fleet with a master: what the hosts answer is played."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from salt.utils.templates import render_jinja_tmpl

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
        folder: where Salt may keep its cache.
    """

    def __init__(self, site: Site, folder: Path):
        self.site, self.folder = site, folder
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {
            "code.digest": lambda host, *_: "same",
            "state.test": lambda host, *_: {},
            "fleet.serves": lambda host, *_: {"now": {"release": "b-1", "build": "b"}},
            "needs.kept": lambda host, *_: [],
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
        path = ROOT / f"salt/orch/{name}.sls"
        options = {"file_client": "local", "file_roots": {"base": [str(ROOT / "salt")]}, "cachedir": str(self.folder)}
        options |= {"extension_modules": "", "fileserver_backend": ["roots"], "fileserver_followsymlinks": True}
        options |= {"file_ignore_regex": [], "file_ignore_glob": [], "pillar_roots": {}, "jinja_env": {}}
        options |= {"hash_type": "sha256", "file_buffer_size": 262144, "id": "master_master", "__role": "master"}
        pillar = fleet_pillar(self.site) | {"code": "same"} | told
        salt = {"saltutil.cmd": self.cmd, "saltutil.runner": self.runner}
        context = {
            "opts": options,
            "saltenv": "base",
            "sls": f"orch.{name}",
            "salt": salt,
            "pillar": pillar,
            "grains": {},
        }
        text = render_jinja_tmpl(path.read_text(), context, tmplpath=str(path))
        return dict(yaml.safe_load(text) or {})


@pytest.fixture(params=FLEETS, ids=lambda path: path.name)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Orchestrations:
    shutil.copytree(request.param, tmp_path / "site")
    site = load_site(tmp_path / "site")
    generate_secrets(site)
    return Orchestrations(site, tmp_path)


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
