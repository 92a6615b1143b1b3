"""People's own SSH keys, the server's own key and Debian's age: secrets that lie in Git, as an operator has them."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.apply import apply, explain
from lab.host import ENVIRONMENT, Host
from lab.images import REPOSITORY_ON_HOST
from lab.lab import Lab

pytestmark = pytest.mark.slow("no sample")

SITE = f"{REPOSITORY_ON_HOST}/site"
PEOPLE = "/run/team-test"


@pytest.fixture
def host(lab: Lab, one: Host, tmp_path: Path) -> Iterator[Host]:
    """The host, which may write to the site; afterwards the secrets are as they were, on the host too."""
    kept = tmp_path / "secrets"
    shutil.copytree(lab.site / "secrets", kept)
    one.execute(["mount", "-o", "remount,bind,rw", SITE])
    yield one
    shutil.rmtree(lab.site / "secrets")
    shutil.copytree(kept, lab.site / "secrets")
    (lab.site / "secrets").chmod(0o700)
    one.execute(["mount", "-o", "remount,bind,ro", SITE])
    one.execute(["rm", "-rf", PEOPLE, "/etc/saltern/secrets.key"])
    healed = apply(one)
    assert healed.ok, explain(healed)


def call(host: Host, *words: str, editor: str = "false") -> subprocess.CompletedProcess[str]:
    argv = host.argv(["salt-call", "--out=json", *words], cwd=str(REPOSITORY_ON_HOST))
    environment = ENVIRONMENT | {"EDITOR": editor}
    return subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def said(host: Host, *words: str, editor: str = "false") -> str:
    done = call(host, *words, editor=editor)
    assert done.returncode == 0, done.stdout + done.stderr
    return "\n".join(json.loads(done.stdout)["local"])


def sh(host: Host, command: str) -> subprocess.CompletedProcess[str]:
    return host.execute(["sh", "-c", command], capture=True)


def reads(host: Host, name: str, file: str = "shared.yaml") -> bool:
    return sh(host, f"age -d -i {PEOPLE}/{name} {SITE}/secrets/{file}.age > /dev/null").returncode == 0


def test_a_team_keeps_its_secrets_in_git(lab: Lab, host: Host) -> None:
    before = {path.name: path.read_text() for path in (lab.site / "secrets").glob("*.sls")}
    for name, kind in (("ann", "ed25519"), ("bob", "rsa")):
        make = f"mkdir -pm700 {PEOPLE} && ssh-keygen -q -t {kind} -N '' -C {name} -f {PEOPLE}/{name}"
        assert sh(host, make).returncode == 0
        key = sh(host, f"cat {PEOPLE}/{name}.pub").stdout.strip()
        assert f"{name} can read the secrets" in said(host, "site.secrets", "add", name, key)
    files = {str(p.relative_to(lab.site / "secrets")) for p in (lab.site / "secrets").rglob("*") if p.is_file()}
    assert files - {".rotating"} == {
        "shared.yaml.age", "ca/ca.key.age", "ca/ca.crt", "readers.yaml", ".gitignore", *before,
    }  # fmt: skip
    assert all(reads(host, name, file) for name in ("ann", "bob") for file in ("shared.yaml", "ca/ca.key"))
    assert sh(host, "stat -c %a%U /etc/saltern/secrets.key").stdout.strip() == "600root"
    assert call(host, "site.generate_secrets").returncode == 0
    assert before == {path.name: path.read_text() for path in (lab.site / "secrets").glob("*.sls")}
    plan = apply(host, plan=True)
    assert plan.ok and plan.changed == [], "the hosts' files are the same, so nothing changes"

    # Git, as it would be in the site's own repository: nothing in clear, the hosts' files out of it.
    git = f"cd {shlex.quote(str(lab.site))} && git init -q . && git add -A && git ls-files secrets"
    listed = subprocess.run(["sh", "-c", git], capture_output=True, text=True, check=True).stdout.split()
    try:
        hook = subprocess.run(
            [str(Path(__file__).resolve().parents[2] / "bin/secrets-in-git"), str(lab.site)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert hook.returncode == 0, hook.stdout + hook.stderr
        wanted = {"shared.yaml.age", "ca/ca.key.age", "ca/ca.crt", "readers.yaml", ".gitignore"}
        assert {name.removeprefix("secrets/") for name in listed} == wanted
    finally:
        shutil.rmtree(lab.site / ".git")

    # An edit: what is right becomes an overlap, what is wrong changes nothing; nothing stays in memory.
    rule = "s/^    secret_key: .*/    secret_key: edited-by-bob-with-care/"
    sh(host, f'printf \'#!/bin/sh\\nsed -i "{rule}" "$1"\\n\' > {PEOPLE}/good; chmod +x {PEOPLE}/good')
    sh(host, f"printf '#!/bin/sh\\necho canary-Zs9vq3: [ > \"$1\"\\n' > {PEOPLE}/bad; chmod +x {PEOPLE}/bad")
    assert "changed by hand" in said(host, "site.secrets", "edit", editor=f"{PEOPLE}/good")
    refused = call(host, "site.secrets", "edit", editor=f"{PEOPLE}/bad")
    assert refused.returncode and "not valid YAML" in refused.stdout + refused.stderr
    assert "canary" not in refused.stdout + refused.stderr
    assert sh(host, "ls /dev/shm | grep saltern-secrets").stdout == ""
    assert "edited-by-bob" in (lab.site / "secrets/app1.sls").read_text()
    applied = apply(host)
    assert applied.ok, explain(applied)

    # Somebody leaves.
    left = said(host, "site.secrets", "drop-person", "ann")
    assert "salt-call site.rotate demo database" in left and "salt-call site.rotate ca" in left
    assert not reads(host, "ann") and not reads(host, "ann", "ca/ca.key")
    assert reads(host, "bob") and reads(host, "bob", "ca/ca.key")
    assert "replaced" in said(host, "site.rotate", "demo", "owner")

    # Damaged, and empty: nothing is made anew.
    shared = lab.site / "secrets/shared.yaml.age"
    whole = shared.read_text()
    for damage in ("", whole[:200], (lab.site / "secrets/ca/ca.key.age").read_text()):
        shared.write_text(damage)
        refused = call(host, "site.generate_secrets")
        assert refused.returncode and "shared.yaml" in refused.stdout + refused.stderr, damage[:20]
        assert shared.read_text() == damage
    shared.write_text(whole)
