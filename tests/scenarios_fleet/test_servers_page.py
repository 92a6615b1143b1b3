"""docs/servers.md, from one masterless server to a master with a second one: each command as it stands on the page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from debian import REPOSITORY, digest
from lab import images
from lab.host import Host
from lab.lab import Lab

pytestmark = pytest.mark.slow("fleet")

PAGE = (REPOSITORY / "docs/servers.md").read_text()
SECTION = PAGE.split("## A master, and a second server")[1].split("\n## ")[0]
COMMANDS = re.findall(r"^ +(master|log1)# (.+)$", SECTION, re.MULTILINE)
FLEET = re.search(r"```yaml\n(.+?)```", SECTION, re.DOTALL)
KEY = re.compile(r"(?:[0-9a-f]{2}:){31}[0-9a-f]{2}")


@pytest.fixture(scope="module")
def servers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Host]]:
    """Two servers with Debian alone. The first has this repository, Salt's wheels (made once), and an ssh key."""
    fleet = tmp_path_factory.mktemp("fleet")
    hosts = {"master": "10.79.0.10", "log1": "10.79.0.11"}
    lines = [f"  {name}: {{address: {address}, roles: [base]}}" for name, address in hosts.items()]
    (fleet / "fleet.yaml").write_text("\n".join(["name: bare", "domain: example.org", "hosts:", *lines, ""]))
    made = Lab("t-servers")
    made.destroy()
    made.make(str(fleet), image=images.load(lab.record.image).parent)
    found = {host.id: host for host in made.hosts()}
    for host in found.values():
        script = "umount -R /srv/saltern; rm -rf /etc/salt /etc/pip.conf"
        assert host.execute(["sh", "-c", script], capture=True).returncode == 0
    master = found["master"]
    unneeded = shutil.ignore_patterns(".git", "__pycache__", "site", ".*_cache")
    shutil.copytree(REPOSITORY, master.root / "srv/saltern", symlinks=True, ignore=unneeded, dirs_exist_ok=True)
    wheels = next(images.WHEELHOUSE.glob(f"{lab.record.release}-*{digest(REPOSITORY / 'requirements/salt.txt')}"))
    shutil.copytree(wheels, master.root / "var/cache/saltern/wheelhouse" / wheels.name)
    for name in ("id_ed25519", "known_hosts"):
        place = master.root / "root/.ssh" / name
        place.write_text((made.folder / "ssh" / name).read_text())
        place.chmod(0o600)
    yield found
    made.destroy()


def type_in(host: Host, command: str) -> str:
    where = "/srv/saltern" if host.id == "master" else "/root"
    done = host.execute(["bash", "-c", command], capture=True, cwd=where)
    assert done.returncode == 0, f"{host.id}# {command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def real(text: str, servers: dict[str, Host], keys: dict[str, str]) -> str:
    """The page's example addresses and words, as they are here."""
    for example, host in (("192.0.2.10", "master"), ("192.0.2.11", "log1")):
        text = text.replace(example, servers[host].address)
    for word, key in keys.items():
        text = text.replace(word, key)
    return text


def test_the_page_leads_from_one_server_to_a_second_one(servers: dict[str, Host]) -> None:
    assert FLEET and len(COMMANDS) >= 11
    site = servers["master"].root / "srv/saltern/site"
    site.mkdir()
    keys: dict[str, str] = {}
    told: dict[str, str] = {}
    # The server is in use, masterless, when the fleet grows.
    page_fleet = real(re.sub("^   ", "", FLEET[1], flags=re.MULTILINE), servers, {})
    (site / "fleet.yaml").write_text(page_fleet.replace("[base, minion, master]", "[base]").split("  log1:")[0])
    for command in ("bin/bootstrap --id master", "salt-call site.generate_secrets", "salt-call state.apply"):
        type_in(servers["master"], command)
    (site / "fleet.yaml").write_text(page_fleet)
    for host, command in COMMANDS:
        told[command] = said = type_in(servers[host], real(command, servers, keys))
        if key := KEY.search(said):
            keys["FINGERPRINT_OF_MASTER" if "bootstrap master" in command else "FINGERPRINT_OF_MINION"] = key[0]
    assert told["salt '*' test.ping"].count("True") == 2
    assert not (servers["log1"].root / "root/srv/saltern/pillar").exists(), "a minion has no business with it"
    before = servers["log1"].execute(["systemctl", "show", "-p", "MainPID", "salt-minion"], capture=True).stdout
    again = type_in(servers["master"], "salt log1 state.apply --out=json --static")
    assert '"result": false' not in again and "restarts when this job" not in told["salt log1 state.apply"]
    after = servers["log1"].execute(["systemctl", "show", "-p", "MainPID", "salt-minion"], capture=True).stdout
    assert before == after, "bin/bootstrap and role minion write the same files, so nothing had to restart"


def test_another_key_under_the_same_name_is_not_let_in(servers: dict[str, Host]) -> None:
    wrong = ":".join(["ab"] * 32)
    command = ["bin/bootstrap", "accept", "--id", "log1", "--fingerprint", wrong]
    done = servers["master"].execute(command, capture=True, cwd="/srv/saltern")
    assert done.returncode == 1 and "and not that" in done.stderr
