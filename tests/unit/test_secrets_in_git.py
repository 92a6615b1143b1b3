"""Secrets in clear do not get into Git: of a site in a repository of its own, of this one, by hook and by check."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
from pathlib import Path

import pytest
import yaml
from test_site_good import good, load_written

from saltern.site.secrets import generate_secrets

ROOT = Path(__file__).resolve().parents[2]
HOOK = ROOT / "bin/secrets-in-git"
KEY = "\n".join(["-----BEGIN " + "PRIVATE KEY-----", "MIGHAgEAMBMGByqGSM49", "-----END " + "PRIVATE KEY-----", ""])
WORD = "kF3v9Qz7" + "LmN2xR8t"
# path: (content, part of what is said); made of pieces, so that this file is no finding itself.
BAD = {
    "secrets/shared.yaml": ("apps: {}\n", "in clear"),
    "site/secrets/shared.yaml": (f"apps:\n  shop:\n    database_password: {WORD}\n", "database_password"),
    "secrets/shared.yaml.last": ("apps: {}\n", "in clear"),
    "secrets/app1.sls": ("#!yaml\nsecrets: {}\n", "in clear"),
    "secrets/backup.tar.gz": ("\x1f", "in clear"),
    "site/secrets/dump.sql": ("x", "in clear"),
    "secrets/notes": ("x", "in clear"),
    "secrets/ca/ca.key": ("nothing\n", "in clear"),
    "secrets/ca.next/ca.key": (KEY, "private key"),
    "secrets/shared.yaml.age": ("apps: {}\n", "not encrypted"),
    "secrets/README.md": (f"as of today:\n{KEY}", "private key"),
    "backup/app1.sls": (f"#!yaml\nsecrets:\n  apps:\n    shop:\n      secret_key: {WORD}\n", "secret_key"),
    "old.yaml": (f"previous: \n  redis_password: '{WORD}'\n", "redis_password"),
    "apps/shop.yaml": (f"env:\n  STRIPE_API_KEY: {WORD}\n", "STRIPE_API_KEY"),
    "apps/shop2.yaml": ("env: {KEY: sk_li" + "ve_51H8xkLmN2xR8tQz}\n", "token"),
    "apps/blog.yaml": (f"env:\n  MAIL_URL: smtp://me:{WORD}@mail.test\n", "URL with a password"),
    "settings.yaml": (f"x:\n  api_key: |\n    {WORD}\n", "api_key"),
    ".env": (f"SECRET_KEY={WORD}\n", "SECRET_KEY"),
    "deploy/.env.production": (f"export DB_PASSWORD='{WORD}'\n", "DB_PASSWORD"),
    "prod.env": (f"AUTH_TOKEN={WORD}\n", "AUTH_TOKEN"),
    "keys/id_ed25519": ("x\n", "private key by its name"),
    "tls/server.pem": (
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n" + KEY.replace("PRIV", "EC PRIV"),
        "private",
    ),
    "tls/store.p12": ("x", "private key"),
    "me.txt": ("AGE-SECRET-KEY" + "-1QQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L\n", "private key"),
    "hosts/web1.sls": ("#!yaml\nsecrets:\n  tls:\n    key: |\n      " + KEY.replace("\n", "\n      "), "private key"),
    "mixed.age": ("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n" + KEY, "private key"),
}
GOOD = {
    "secrets/shared.yaml.age": "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n",
    "secrets/ca/ca.crt": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    "secrets/readers.yaml": "ann: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample ann\n",
    "secrets/.gitignore": "*\n",
    "secrets/app1.sls": "#!yaml|gpg\nsecrets: |\n  -----BEGIN PGP MESSAGE-----\n  hQ==\n  -----END PGP MESSAGE-----\n",
    "shop/secrets/models.py": "password = models.CharField()\n",
    "salt/x.sls": "x:\n  file.managed:\n    - contents: {{ pillar['x'] | json }}\n    - password: {{ p }}\n",
    "apps/shop.yaml": "env:\n  DB_PASSWORD: '{database_password}'\n  SECRET_KEY_FILE: /run/secrets/key\n  TOKEN_URL: https://x.test/token\n",
    "docs/site.md": "database_password: not-one-that-anybody-has\n",
    "x.yaml": "apps:\n  shop:\n    database_password: ...\n    password_hasher: django.contrib.auth.hashers\n",
    ".env.example": "SECRET_KEY=put-one-of-your-own-here\n",
    ".env": "DEBUG=1\nSECRET_KEY=$(openssl rand)\n",
    "app.toml": "url = 'postgres://user:$PASSWORD@db/x'\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    who = ["-c", "user.name=x", "-c", "user.email=x@x.test"]
    return subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=False)


def staged(folder: Path, path: str, content: str) -> None:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content)
    assert git(folder, "add", "-f", path).returncode == 0


def hook(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/usr/bin/python3", str(HOOK), str(folder)], capture_output=True, text=True, check=False)


def module():
    loader = importlib.machinery.SourceFileLoader("secrets_in_git", str(HOOK))
    found = importlib.util.module_from_spec(importlib.util.spec_from_loader("secrets_in_git", loader))
    loader.exec_module(found)
    return found


@pytest.mark.parametrize("path", BAD)
def test_what_is_in_clear_is_found(path: str) -> None:
    content, said = BAD[path]
    found = list(module().findings(path, content.encode()))
    assert any(said in line for line in found), found
    assert WORD not in "".join(found), "no value is shown"


@pytest.mark.parametrize("path", GOOD)
def test_what_is_no_secret_is_left_alone(path: str) -> None:
    assert list(module().findings(path, GOOD[path].encode())) == []


def test_a_commit_is_stopped_by_the_hook_and_it_looks_at_the_index(repository: Path) -> None:
    (repository / ".git/hooks/pre-commit").symlink_to(HOOK)
    staged(repository, "fleet.yaml", "name: x\n")
    assert git(repository, "commit", "-qm", "good").returncode == 0
    staged(repository, ".env", f"DB_PASSWORD={WORD}\n")
    (repository / ".env").write_text("nothing any more\n")  # what is on the disk is not what would be committed
    done = git(repository, "commit", "-qm", "bad")
    assert done.returncode and ".env: holds DB_PASSWORD in clear" in done.stdout + done.stderr
    assert "site.secrets add" in done.stdout + done.stderr and WORD not in done.stdout + done.stderr
    assert "good" in git(repository, "log", "--format=%s").stdout and "bad" not in git(repository, "log").stdout


def test_every_file_of_a_generated_site_that_is_secret_is_found(tmp_path: Path, repository: Path) -> None:
    site = load_written(tmp_path, good())
    generate_secrets(site)
    paths = [path for path in site.path.rglob("*") if path.is_file()]
    for path in paths:
        staged(repository, str(path.relative_to(site.path)), path.read_text())
    found = {line.partition(":")[0] for line in hook(repository).stdout.splitlines()[:-1]}
    public = {"secrets/ca/ca.crt"}
    assert (
        found
        == {str(p.relative_to(site.path)) for p in paths if "secrets" in p.parts[-3:-1] or p.parent.name == "ca"}
        - public
    )


def test_names_with_line_breaks_and_folders_of_any_depth(repository: Path) -> None:
    staged(repository, "a/b\nc/secrets/shared.yaml", "x: 1\n")
    inner = repository / "deep/er"
    inner.mkdir(parents=True)
    done = hook(inner)
    assert done.returncode == 1 and "a/b\\nc/secrets/shared.yaml" in done.stdout


def test_no_repository_is_no_success(tmp_path: Path) -> None:
    assert hook(tmp_path).returncode == 2


def test_this_repository_has_none() -> None:
    done = hook(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_and_hook_of_this_repository_run_it() -> None:
    assert "bin/secrets-in-git" in (ROOT / "lab/tests.py").read_text()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert hooks[0]["entry"] == "bin/secrets-in-git" and hooks[0]["always_run"]
