"""Releases over a lab's fleet, for tests and bench/: the demo is changed in the lab's own site, the master deploys."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.deploys import Demo, copied
from lab.host import ENVIRONMENT, Host
from lab.images import REPOSITORY_ON_HOST
from lab.lab import Lab


@dataclass
class Orchestration:
    """What an orchestration did: its exit code, and each step's result by name (True, False, or None)."""

    exit_code: int
    steps: dict[str, Any]
    text: str


def orchestrate(master: Host, name: str, **pillar: Any) -> Orchestration:
    """Run `salt-run state.orchestrate` on the master as an operator would.

    Args:
        master: the lab's master.
        name: such as `orch.deploy`.
        pillar: what it is told.
    """
    process = start_orchestration(master, name, **pillar)
    return ended(process)


def start_orchestration(master: Host, name: str, **pillar: Any) -> subprocess.Popen[str]:
    """Begin an orchestration and return its process, to be given to `ended`."""
    command = ["salt-run", "state.orchestrate", name, f"pillar={json.dumps(pillar)}", "--out=json", "-l", "error"]
    where = master.argv(command, cwd=str(REPOSITORY_ON_HOST))
    pipe = subprocess.PIPE
    return subprocess.Popen(where, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str]) -> Orchestration:
    """Wait for the end of an orchestration."""
    out, err = process.communicate()
    try:
        (states,) = json.loads(out)["data"].values()
        steps = {state["__id__"]: state["result"] for state in states.values() if state.get("__run_num__") is not None}
    except (ValueError, KeyError, TypeError, AttributeError):
        steps = {}
    return Orchestration(process.returncode, steps, out + err)


def call(host: Host, *words: str) -> Any:
    """Run an execution function on a minion as the master would, and return its answer.

    Raises:
        RuntimeError: it failed; with what it printed.
    """
    done = host.execute(["salt-call", "--out=json", "-l", "error", *words], capture=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return json.loads(done.stdout)["local"]


def link_of(host: Host) -> str:
    """Return the id of the release that a web host gives its requests to, as the link itself says."""
    return Path(host.execute(["readlink", "/srv/apps/demo/current.sock"], capture=True).stdout.strip()).stem


@contextmanager
def demo_of(lab: Lab) -> Iterator[Demo]:
    """Give the lab a demo of its own to change; afterwards it serves again what its fleet says.

    Args:
        lab: a lab with a master.
    """
    assert lab.master
    master = lab.master

    def serve_again() -> None:
        done = orchestrate(master, "orch.deploy", app="demo")
        assert done.exit_code == 0, done.text

    demo = Demo(lab, master)
    with copied(demo, serve_again):
        yield demo
