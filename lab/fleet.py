"""A lab with a master: who is joined to it how, and Salt's own orchestration over all its hosts."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joining
from debian import Refused
from lab import images
from lab.apply import Outcome, follow
from lab.apply import apply as apply_here
from lab.host import ENVIRONMENT, Host

if TYPE_CHECKING:
    from lab.lab import Lab

WHEELHOUSE = (images.WHEELHOUSE, Path("/var/cache/saltern/wheelhouse"))
ANSWER_SECONDS = 60


def roles_of(fleet: dict, role: str) -> list[str]:
    """Return the ids of a fleet.yaml's hosts that have a role."""
    return [name for name, host in fleet["hosts"].items() if role in host["roles"]]


def make_keys(folder: Path, fleet: dict) -> None:
    """Make the key pairs of the master and of each minion, as an installer does before their first boot.

    Args:
        folder: where the lab keeps them.
        fleet: its fleet.yaml.
    """
    wanted = [(folder / host, "minion") for host in roles_of(fleet, "minion")]
    wanted += [(folder / host, "master") for host in roles_of(fleet, "master")]
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda pair: joining.make_keys(*pair), wanted))


def seeds(folder: Path, fleet: dict, host: str) -> dict[str, tuple[str, int]]:
    """Return what a host of a fleet with a master has before its first boot: path to (text, mode).

    Every minion knows the master's fingerprint, and the master has every minion's key among the accepted ones; so no
    key is ever accepted because someone has sent it.

    Args:
        folder: the lab's keys.
        fleet: its fleet.yaml.
        host: the host's id.
    """
    found: dict[str, tuple[str, int]] = {}
    masters = roles_of(fleet, "master")
    if host in masters:
        found |= _key_pair(folder / host, "master", joining.MASTER_KEYS)
        for minion in roles_of(fleet, "minion"):
            public = (folder / minion / "minion.pub").read_text()
            found[f"{joining.MASTER_KEYS}/minions/{minion}"] = (public, 0o644)
    if masters and host in roles_of(fleet, "minion"):
        address = fleet["hosts"][masters[0]]["address"]
        pin = joining.fingerprint((folder / masters[0] / "master.pub").read_text())
        found |= {name: (text, 0o644) for name, text in joining.minion_files(host, address, pin).items()}
        found |= _key_pair(folder / host, "minion", joining.MINION_KEYS)
    return found


def hand_over_keys(master: Host, folder: Path, fleet: dict) -> None:
    """Give a master the keys of minions that are newer than it is, in place of older ones of the same name.

    Args:
        master: the lab's master, running.
        folder: the lab's keys.
        fleet: its fleet.yaml.
    """
    accepted = joining.MASTER_KEYS / "minions"
    for name, (text, _) in seeds(folder, fleet, master.id).items():
        place = master.root / name.lstrip("/")
        if Path(name).parent != accepted or (place.exists() and place.read_text().strip() == text.strip()):
            continue
        others = " ".join(
            str(joining.MASTER_KEYS / kind / Path(name).name) for kind in ("minions_pre", "minions_denied")
        )
        script = f"install -o salt -g salt -m 644 /dev/stdin {name} && rm -f {others}"
        done = master.execute(["sh", "-c", script], stdin=text, capture=True)
        if done.returncode:
            raise Refused(f"{master.id} does not take the key of {Path(name).name}: {done.stderr}")


def _key_pair(folder: Path, name: str, there: Path) -> dict[str, tuple[str, int]]:
    pair = {"pem": 0o400, "pub": 0o644}
    return {f"{there}/{name}.{kind}": ((folder / f"{name}.{kind}").read_text(), mode) for kind, mode in pair.items()}


def readers(master: Host) -> int | None:
    """Return the number of the group `salt` on the master, which may read the hosts' secrets; None: not made yet."""
    groups = master.upper / "etc/group"
    lines = groups.read_text().splitlines() if groups.exists() else []
    return next((int(line.split(":")[2]) for line in lines if line.startswith("salt:")), None)


def become_master(master: Host) -> None:
    """Run `bin/bootstrap master` on the host, as an operator would.

    Raises:
        Refused: it failed.
    """
    done = master.execute(["bin/bootstrap", "master"], capture=True, cwd=str(images.REPOSITORY_ON_HOST))
    if done.returncode:
        raise Refused(f"bin/bootstrap master failed on {master.id}:\n{done.stdout}{done.stderr}")


def connect(master: Host, minions: list[Host]) -> None:
    """Start every minion, and wait until the master hears each.

    Raises:
        Refused: one does not answer; the message says what it logged.
    """
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda h: h.execute(["systemctl", "enable", "--now", "--quiet", "salt-minion"]), minions))
    missing = minions
    deadline = time.monotonic() + ANSWER_SECONDS
    while missing:
        there = _answering(master, missing)
        missing = [host for host in missing if host.id not in there]
        if missing and time.monotonic() > deadline:
            said = missing[0].execute(["journalctl", "-u", "salt-minion", "-n", "8", "-o", "cat"], capture=True).stdout
            raise Refused(
                f"{', '.join(h.id for h in missing)} did not answer the master. {missing[0].id} says:\n{said}"
            )


def _answering(master: Host, hosts: list[Host]) -> set[str]:
    command = ["salt", "-L", ",".join(host.id for host in hosts), "test.ping", "--out=json", "--static", "--timeout=3"]
    answer = master.execute(command, capture=True).stdout
    try:
        return {host for host, said in json.loads(answer).items() if said is True}
    except ValueError:
        return set()


def apply_all(lab: Lab) -> list[Outcome]:
    """Apply a lab with a master from nothing: the master itself, without itself, then all hosts from it."""
    assert lab.master
    first = apply_here(lab.master)
    if not first.ok:
        return [first]
    connect(lab.master, lab.minions())
    return [first, *apply(lab.master, lab.minions(), [])]


def apply(
    master: Host,
    minions: list[Host],
    hosts: list[str],
    *,
    plan: bool = False,
    on_state: Callable[[str, str, float], None] = lambda host, name, ms: None,
) -> list[Outcome]:
    """Apply the states to hosts from the master: `salt-run state.orchestrate orch.apply`.

    Args:
        master: the lab's master.
        minions: the lab's minions.
        hosts: ids of some of them; none means all.
        plan: test=True.
        on_state: called with host, state's name and its milliseconds as each finishes.
    """
    pillar = json.dumps({"plan": plan, **({"hosts": hosts} if hosts else {})})
    command = ["salt-run", "state.orchestrate", "orch.apply", f"pillar={pillar}", "--out=json", "--log-level=error"]
    with contextlib.ExitStack() as followed:
        for host in minions:
            if not hosts or host.id in hosts:
                followed.enter_context(following(host, partial(on_state, host.id)))
        done = master.execute(command, capture=True, cwd=str(images.REPOSITORY_ON_HOST))
    return read_orchestration(done.returncode, done.stdout, done.stderr, partial(_job, master))


@contextlib.contextmanager
def following(host: Host, on_state: Callable[[str, float], None]) -> Iterator[None]:
    """Tell of each state as it finishes on a host, by the journal of its minion."""
    watch = "echo $$; exec journalctl --unit=salt-minion --follow --lines=0 --output=cat"
    process = subprocess.Popen(
        host.argv(["sh", "-c", watch]),
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    pid = process.stdout.readline().strip()
    reader = threading.Thread(target=follow, args=(process.stdout, on_state, []))
    reader.start()
    try:
        yield
    finally:
        host.execute(["kill", pid], capture=True)
        process.wait()
        reader.join()


def _job(master: Host, jid: str) -> dict[str, Any]:
    """Return what each host answered to a job, from the master's job cache."""
    done = master.execute(["salt-run", "jobs.lookup_jid", jid, "--out=json"], capture=True)
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        return {}


def read_orchestration(
    exit_code: int, answer: str, log: str, job: Callable[[str], dict[str, Any]] = lambda jid: {}
) -> list[Outcome]:
    """Turn the JSON of an orchestration into one outcome for each host; what cannot be read is a failure.

    Args:
        exit_code: salt-run's.
        answer: its standard output.
        log: its standard error.
        job: what the hosts answered to a job by its id; a step of Salt's names only hosts that changed.

    Example:
        >>> read_orchestration(0, "", "")[0].ok
        False
    """
    try:
        (steps,) = json.loads(answer)["data"].values()
    except (ValueError, KeyError, TypeError, AttributeError):
        return [
            Outcome("master", exit_code or 1, errors=[answer.strip() or log.strip() or "salt-run returned nothing"])
        ]
    if not isinstance(steps, dict):
        return [Outcome("master", exit_code or 1, errors=[str(item) for item in steps])]
    outcomes = []
    for key, step in sorted(steps.items(), key=lambda found: found[1]["__run_num__"]):
        if key.endswith("_|-runner"):  # another orchestration, such as orch.settle: no host's own
            outcomes += [] if step["result"] else [Outcome("master", 1, errors=[step["comment"]])]
            continue
        hosts, returned = str(step["__id__"]).split(", "), (step.get("changes") or {}).get("ret") or {}
        if not set(hosts) <= set(returned) and "__jid__" in step:
            returned = job(step["__jid__"]) | returned
        outcomes += [_outcome(host, returned.get(host), step) for host in sorted(hosts)]
    return outcomes


def _outcome(host: str, returned: Any, step: dict[str, Any]) -> Outcome:
    if not isinstance(returned, dict):
        said = returned if isinstance(returned, list) else [returned or step["comment"]]
        return Outcome(host, 1, errors=[str(item) for item in said])
    outcome = Outcome(host, 0, states=sorted(returned.values(), key=lambda state: state["__run_num__"]))
    outcome.exit_code = 1 if outcome.failed else 0
    return outcome


def write_operator(master: Host, folder: Path) -> None:
    """Give root on the master the lab's ssh key and the hosts' keys, as an operator has them.

    Args:
        master: the lab's master.
        folder: the lab's id_ed25519 and known_hosts.
    """
    place = master.root / "root/.ssh"
    place.mkdir(mode=0o700, exist_ok=True)
    for name, mode in (("id_ed25519", 0o600), ("known_hosts", 0o644)):
        (place / name).write_text((folder / name).read_text())
        (place / name).chmod(mode)
