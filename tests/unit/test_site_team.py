"""Secrets that lie in Git: who can read them, how they are changed, and what is never taken for good.

With age where the machine has it, else with a stand-in that fails in the same ways: what is ours must hold with both.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from test_site_good import good, load_written

from saltern.site import team, vault
from saltern.site.errors import SiteError
from saltern.site.load import Site
from saltern.site.overlap import begin, finish, fresh, held, mark_ending
from saltern.site.rotation import Deeds, rotate
from saltern.site.secrets import generate_secrets
from saltern.site.team import TeamError
from saltern.site.vault import Vault, in_memory

FAKE = Path(__file__).with_name("fake_age.py")


@pytest.fixture
def age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("age"):
        return
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("age", "age-keygen"):
        (folder / name).write_text(f"#!{sys.executable}\n" + FAKE.read_text())
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


class Team:
    """A site with its server's key, and people's."""

    def __init__(self, folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch):
        self.site, self.secrets, self.keys = site, site.path / "secrets", folder / "keys"
        self.keys.mkdir()
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(vault, "IDENTITIES", (self.keys / "machine",))
        monkeypatch.setattr(team, "MACHINE_KEY", self.keys / "machine")
        monkeypatch.setattr(team._machine_key, "__defaults__", (self.keys / "machine",))

    def key(self, name: str) -> str:
        (self.keys / name).write_text(team._keygen([]))
        return team._keygen(["-y", str(self.keys / name)]).strip()

    def reads(self, name: str, file: str = "shared.yaml") -> bool:
        try:
            Vault(self.secrets, (self.keys / name,)).read(file)
        except SiteError:
            return False
        return True

    def files(self) -> set[str]:
        return {str(path.relative_to(self.secrets)) for path in self.secrets.rglob("*") if path.is_file()}


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: None) -> Team:
    made = load_written(tmp_path, good())
    generate_secrets(made)
    return Team(tmp_path, made, monkeypatch)


@pytest.fixture
def ann(people: Team) -> Team:
    team.add(people.site, "app1", "ann", people.key("ann"))
    return people


def test_the_first_reader_makes_them_encrypted_and_nothing_else_changes(people: Team) -> None:
    hosts = {path.name: path.read_text() for path in people.secrets.glob("*.sls")}
    shared = (people.secrets / "shared.yaml").read_text()
    key = (people.secrets / "ca/ca.key").read_text()
    team.add(people.site, "app1", "ann", people.key("ann"))
    wanted = {"shared.yaml.age", "ca/ca.key.age", "ca/ca.crt", "readers.yaml", ".gitignore", *hosts}
    assert people.files() == wanted, "nothing is left in clear"
    for secret in (*[one.place(yaml.safe_load(shared))[one.kind.key] for one in held(yaml.safe_load(shared))], key):
        for name in people.files() - set(hosts):
            assert secret not in (people.secrets / name).read_text()
    assert Vault(people.secrets).read("shared.yaml") == shared
    assert all(people.reads(who, file) for who in ("ann", "machine") for file in ("shared.yaml", "ca/ca.key"))
    assert generate_secrets(people.site) == []
    assert hosts == {path.name: path.read_text() for path in people.secrets.glob("*.sls")}
    assert stat.S_IMODE((people.keys / "machine").stat().st_mode) == 0o600
    assert sorted(team.listed(people.site)) == ["ann", "app1"]


def test_who_leaves_reads_nothing_new_and_what_he_knew_is_listed(ann: Team) -> None:
    team.add(ann.site, "app1", "bob", ann.key("bob"))
    assert ann.reads("bob") and ann.reads("bob", "ca/ca.key")
    said = team.drop(ann.site, "app1", "ann")
    assert not ann.reads("ann") and not ann.reads("ann", "ca/ca.key")
    assert ann.reads("bob") and ann.reads("machine", "ca/ca.key")
    data = yaml.safe_load(Vault(ann.secrets).read("shared.yaml"))
    assert {one.command for one in held(data)} == {
        line.partition(": ")[2] for line in said if "site.rotate" in line and "rotate ca" not in line
    }
    assert any("salt-call site.rotate ca" in line for line in said)
    assert "ann" not in (ann.secrets / "readers.yaml").read_text()


@pytest.mark.parametrize("state", ["overlap", "ending"])
def test_what_is_being_replaced_already_is_ended_first_and_then_replaced(ann: Team, state: str) -> None:
    """He read the new one too, and a rotation that has begun makes no other."""
    data = yaml.safe_load(Vault(ann.secrets).read("shared.yaml"))
    for one in held(data):
        begin(data, one, fresh(one.kind), one.place(data)[one.kind.key])
        if state == "ending":
            finish(data, one)
            mark_ending(data, one, True)
    said = team.known_to_all(ann.site, data)
    for one in held(data):
        first, then = [line for line in said if one.command in line]
        assert first.startswith("replace what was known, first: ") and then.endswith(f"then: {one.command}"), one.key
        assert ("finish=True" in first) == bool(one.kind.days), one.key
    assert sum("site.rotate ca" in line for line in said) == 1
    (ann.secrets / "ca.previous").mkdir()
    assert sum("site.rotate ca" in line for line in team.known_to_all(ann.site, data)) == 2


def test_variables_of_others_are_listed_by_name_and_not_by_value(ann: Team) -> None:
    data = yaml.safe_load(Vault(ann.secrets).read("shared.yaml"))
    data["apps"]["blog"]["env"] = {"STRIPE_KEY": "canary-Zs9vq3-canary"}
    said = "\n".join(team.known_to_all(ann.site, data))
    assert "apps.blog.env.STRIPE_KEY" in said and "canary" not in said


def test_a_drop_that_is_killed_is_finished_by_the_next_run(ann: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    team.add(ann.site, "app1", "bob", ann.key("bob"))

    original, calls = Vault.write, []

    def write(self: Vault, name: str, *rest: object) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(name)
        original(self, name, *rest)

    monkeypatch.setattr(Vault, "write", write)
    with pytest.raises(KeyboardInterrupt):
        team.drop(ann.site, "app1", "ann")
    monkeypatch.setattr(Vault, "write", original)
    assert ann.reads("ann", "ca/ca.key"), "else nothing was to be finished"
    done = generate_secrets(ann.site)
    assert any("ca/ca.key.age: encrypted anew" in line for line in done)
    assert not ann.reads("ann", "ca/ca.key") and list(team.listed(ann.site)) == ["app1", "bob"]


@pytest.mark.parametrize("killed_at", range(3))
def test_a_first_encryption_that_is_killed_loses_nothing(
    people: Team, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, ann = (people.secrets / "shared.yaml").read_text(), people.key("ann")
    original, calls = Path.unlink, []

    def unlink(path: Path, *rest: object, **more: object) -> None:
        if str(path).startswith(str(people.secrets)) and len(calls) == killed_at:
            raise KeyboardInterrupt
        calls.append(path)
        original(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        team.add(people.site, "app1", "ann", ann)
    monkeypatch.setattr(Path, "unlink", original)
    assert Vault(people.secrets)._open("shared.yaml")[0] == text
    team.add(people.site, "app1", "ann", ann)  # goes on
    assert not people.files() & {"shared.yaml", "ca/ca.key", "shared.yaml.last"}
    assert Vault(people.secrets).read("shared.yaml") == text and people.reads("ann", "ca/ca.key")


@pytest.mark.parametrize("verb", ["generate", "edit", "drop", "rotate"])
def test_every_verb_takes_away_what_a_killed_encryption_has_left(ann: Team, verb: str) -> None:
    team.add(ann.site, "app1", "bob", ann.key("bob"))
    for name in ("shared.yaml", "ca/ca.key"):
        (ann.secrets / name).write_text(Vault(ann.secrets).read(name))
    (ann.secrets / "shared.yaml.last").write_text("apps: {}\n")
    {
        "generate": lambda: generate_secrets(ann.site),
        "edit": lambda: team.edit(ann.site, shell("true")),
        "drop": lambda: team.drop(ann.site, "app1", "bob"),
        "rotate": lambda: rotate(ann.site, ["ca"], Deeds(list, lambda: None, lambda _: []), step="begin"),
    }[verb]()
    assert not ann.files() & {"shared.yaml", "ca/ca.key", "shared.yaml.last"}


def test_an_add_that_is_killed_is_taken_back_by_the_next_run(ann: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    bob, original, calls = ann.key("bob"), Vault.write, []

    def write(self: Vault, name: str, *rest: object) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(name)
        original(self, name, *rest)

    monkeypatch.setattr(Vault, "write", write)
    with pytest.raises(KeyboardInterrupt):
        team.add(ann.site, "app1", "bob", bob)
    monkeypatch.setattr(Vault, "write", original)
    generate_secrets(ann.site)
    assert not ann.reads("bob") and not ann.reads("bob", "ca/ca.key")
    team.add(ann.site, "app1", "bob", bob)
    assert ann.reads("bob") and ann.reads("bob", "ca/ca.key")


def test_nobody_comes_back_by_an_older_file(ann: Team) -> None:
    team.add(ann.site, "app1", "bob", ann.key("bob"))
    older = (ann.secrets / "shared.yaml.age").read_text()
    team.drop(ann.site, "app1", "ann")
    (ann.secrets / "shared.yaml.age").write_text(older)
    with pytest.raises(SiteError, match=r"ca/ca\.key\.age: ann .*drop-person ann"):
        generate_secrets(ann.site)
    assert not ann.reads("ann", "ca/ca.key")
    team.drop(ann.site, "app1", "ann")  # as it says
    assert not ann.reads("ann") and generate_secrets(ann.site) == []


def test_nobody_becomes_a_reader_by_an_edit_of_the_list(ann: Team) -> None:
    eve = ann.key("eve")
    path = ann.secrets / "readers.yaml"
    path.write_text(path.read_text() + f"eve: {eve}\n")
    done = generate_secrets(ann.site)
    assert done == ["readers.yaml: put right by the list inside shared.yaml.age"]
    team.add(ann.site, "app1", "bob", ann.key("bob"))
    assert "eve" not in path.read_text() and not ann.reads("eve")


DAMAGES = {
    "empty": lambda path, other: path.write_text(""),
    "cut": lambda path, other: path.write_text(path.read_text()[: len(path.read_text()) // 2]),
    "garbage": lambda path, other: path.write_text("<<<<<<< HEAD\n" + path.read_text()),
    "clear text": lambda path, other: path.write_text("apps: {}\n"),
    "missing": lambda path, other: path.unlink(),
    "another file's": lambda path, other: path.write_text(other.read_text()),
    "null bytes": lambda path, other: path.write_bytes(b"\0" * 100),
}


@pytest.mark.parametrize("name", ["shared.yaml.age", "ca/ca.key.age"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("hosts", ["with hosts' files", "in a fresh clone"])
def test_a_damaged_file_is_refused_and_nothing_is_made_anew(ann: Team, name: str, damage: str, hosts: str) -> None:
    if hosts == "in a fresh clone":
        for path in ann.secrets.glob("*.sls"):
            path.unlink()
    other = ann.secrets / ("ca/ca.key.age" if name == "shared.yaml.age" else "shared.yaml.age")
    DAMAGES[damage](ann.secrets / name, other)
    before = {file: (ann.secrets / file).read_bytes() for file in ann.files()}
    with pytest.raises(SiteError) as raised:
        generate_secrets(ann.site)
    assert before == {file: (ann.secrets / file).read_bytes() for file in ann.files()}
    assert name.removesuffix(".age") in str(raised.value)
    assert "put" in str(raised.value)


def test_an_encrypted_text_without_content_is_no_empty_one(ann: Team) -> None:
    Vault(ann.secrets).write("shared.yaml", "\n")
    with pytest.raises(SiteError, match="holds nothing"):
        generate_secrets(ann.site)


def test_without_a_key_it_says_which_and_where(ann: Team) -> None:
    (ann.keys / "machine").unlink()
    with pytest.raises(SiteError, match=r"no key to read it with; looked for: .*machine"):
        generate_secrets(ann.site)
    ann.key("machine")
    with pytest.raises(SiteError, match="no identity matched"):
        generate_secrets(ann.site)


def test_a_clear_file_beside_the_encrypted_one_is_refused(ann: Team) -> None:
    (ann.secrets / "shared.yaml").write_text("apps: {}\n")
    with pytest.raises(SiteError, match=r"stands here in clear.*move it out of secrets/.*site\.secrets edit"):
        generate_secrets(ann.site)
    (ann.secrets / "shared.yaml").rename(ann.keys / "shared.yaml")  # the advice can be followed
    assert team.edit(ann.site, shell("true")) == ["nothing was changed"]


def test_a_rotation_works_on_encrypted_files(ann: Team) -> None:
    one = next(one for one in held(yaml.safe_load(Vault(ann.secrets).read("shared.yaml"))) if one.app == "blog")
    deeds = Deeds(list, lambda: None, lambda _: [])
    for step in ("begin", "end"):
        rotate(ann.site, ["blog", one.kind.name], deeds, step=step)
    for step in ("begin", "begin", "end"):
        rotate(ann.site, ["ca"], deeds, step=step)
    clear = {name for name in ann.files() if not name.endswith((".age", ".sls", ".crt"))}
    assert clear <= {"readers.yaml", ".gitignore", ".rotating"}
    assert ann.reads("ann", "ca/ca.key")


KEYS = {
    "private": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "age private": "AGE-SECRET-KEY-1QQQ",
    "another kind": "ecdsa-sha2-nistp256 AAAA ann",
    "an option": "-i /etc/shadow",
    "two lines": "ssh-ed25519 AAAA ann\nssh-ed25519 BBBB eve",
    "nothing": "",
    "no file": "/nowhere/ann.pub",
}


@pytest.mark.parametrize("key", KEYS)
def test_what_is_no_public_key_is_refused(people: Team, key: str) -> None:
    with pytest.raises(TeamError):
        team.add(people.site, "app1", "ann", KEYS[key])
    assert not (people.secrets / "readers.yaml").exists()


def test_those_without_whom_nobody_could_go_on_stay(ann: Team) -> None:
    for name, why in (("app1", "is this server"), ("ann", "add somebody else first"), ("eve", "none of those")):
        with pytest.raises(TeamError, match=why):
            team.drop(ann.site, "app1", name)
    with pytest.raises(TeamError, match="another key already"):
        team.add(ann.site, "app1", "ann", ann.key("ann2"))
    with pytest.raises(TeamError, match="is no name"):
        team.add(ann.site, "app1", "-r x", ann.key("bob"))


def shell(command: str):
    """An editor that is a shell command; the file is its first argument."""
    return lambda words: subprocess.run(["sh", "-c", command, "sh", words[-1]], check=False).returncode


def test_an_edit_reaches_the_hosts_as_an_overlap_and_leaves_nothing_behind(ann: Team) -> None:
    done = team.edit(ann.site, shell('sed -i "s/^    secret_key: .*/    secret_key: edited-by-a-person-1/" "$1"'))
    assert any("was changed by hand, the old one stays good" in line for line in done)
    assert "edited-by-a-person-1" in (ann.secrets / "web1.sls").read_text()
    assert not list(Path("/dev/shm").glob(f"saltern-secrets-{os.getpid()}"))
    assert team.edit(ann.site, shell("true")) == ["nothing was changed"]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ('echo "apps: [" > "$1"', "not valid YAML"),
        (': > "$1"', "is empty"),
        ('echo "apps: {blog: {secret_key: short}}" > "$1"', "too weak"),
        ('echo "apps: {}" > "$1"; echo "aps: {}" >> "$1"', "unknown key"),
        ("false", "the editor has failed"),
        ('rm "$1"', "No such file"),
    ],
)
def test_a_bad_edit_changes_nothing_and_leaves_nothing_behind(ann: Team, command: str, why: str) -> None:
    before = {file: (ann.secrets / file).read_bytes() for file in ann.files()}
    with pytest.raises((SiteError, TeamError, OSError), match=why):
        team.edit(ann.site, shell(command))
    assert before == {file: (ann.secrets / file).read_bytes() for file in ann.files()}
    assert not list(Path("/dev/shm").glob(f"saltern-secrets-{os.getpid()}"))


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(ann: Team) -> None:
    def editor(words: list[str]) -> int:
        Vault(ann.secrets).write("shared.yaml", Vault(ann.secrets).read("shared.yaml") + "# another one\n")
        return shell('echo "# mine" >> "$1"')(words)

    with pytest.raises(TeamError, match="somebody else has changed"):
        team.edit(ann.site, editor)
    assert "# another one" in Vault(ann.secrets).read("shared.yaml")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_what_is_in_clear_goes_with_whoever_edits(memory: Path, number: int) -> None:
    code = (
        "import sys, time; from pathlib import Path; from saltern.site import team, vault\n"
        "with vault.in_memory(Path(sys.argv[1])) as folder, team._ended_by_signals():\n"
        "    (folder / 'shared.yaml').write_text('x'); print(folder, flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(memory)], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    folder = Path(child.stdout.readline().strip())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    child.send_signal(number)
    child.wait(10)
    if number == signal.SIGKILL:  # nothing can be done by the killed one: the next one does it
        assert folder.exists()
        time.sleep(0.1)
        with in_memory(memory):
            assert not folder.exists()
    assert list(memory.glob("saltern-secrets-*")) == []
