"""Salt on a lab host: each state is shown as it finishes, and every way of failing is a failure."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from debian import REPOSITORY
from lab.host import ENVIRONMENT, Host
from lab.output import detail

COMPLETED = re.compile(r"Completed state \[(?P<name>.*)\] at time .*duration_in_ms=(?P<ms>[\d.]+)")
RUNNING_ALREADY = re.compile(r'The function "state\.\w+" is running as PID (\d+)')
MESSAGE = re.compile(r"^\[(INFO|WARNING|ERROR|CRITICAL)\s*\] ")


@dataclass
class Outcome:
    """What an apply or a plan did on one host."""

    host: str
    exit_code: int
    states: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # compile and pillar errors, in Salt's words
    log: list[str] = field(default_factory=list)  # warnings and errors that Salt logged

    @property
    def ok(self) -> bool:
        """Return whether every state succeeded, and there was at least one."""
        return self.exit_code == 0 and not self.errors and bool(self.states) and not self.failed

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Return the states that failed, the causes before those that only waited for them."""
        bad = [state for state in self.states if state["result"] is False]
        return sorted(bad, key=lambda s: ("requisite" in s["comment"].lower(), s["__run_num__"]))

    @property
    def changed(self) -> list[str]:
        """Return the ids of states that changed something or, in a plan, would."""
        return [s["__id__"] for s in self.states if s["result"] is None or (s["result"] and s["changes"])]


def apply(
    host: Host,
    *,
    plan: bool = False,
    on_state: Callable[[str, float], None] = lambda name, ms: None,
    environment: dict[str, str] | None = None,
) -> Outcome:
    """Run `salt-call state.apply` on the host as an operator would: in the repository's root, with no flags.

    Args:
        host: a running lab host.
        plan: test=True.
        on_state: called with each state's name and its milliseconds as it finishes.
        environment: more environment variables for Salt.
    """
    while True:
        outcome = _run(host, plan, on_state, environment or {})
        other = RUNNING_ALREADY.search("\n".join(outcome.errors))
        if not other:
            return outcome
        # Left by a command that was killed here; it goes on there. When it has ended, it is our turn.
        detail(f"{host.id}: an apply is running there already (process {other[1]}), waiting for its end")
        while host.execute(["test", "-d", f"/proc/{other[1]}"], capture=True).returncode == 0:
            time.sleep(0.2)


def _run(host: Host, plan: bool, on_state: Callable[[str, float], None], environment: dict[str, str]) -> Outcome:
    command = ["salt-call", "state.apply", "--out=json", "--log-level=info", *(["test=True"] if plan else [])]
    process = subprocess.Popen(
        host.argv(command, cwd=host.home),
        env=ENVIRONMENT | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log: list[str] = []
    reader = threading.Thread(target=follow, args=(process.stderr, on_state, log))
    reader.start()
    assert process.stdout is not None
    answer = process.stdout.read()
    reader.join()
    return read_answer(host.id, process.wait(), answer, log)


def follow(stream: Any, on_state: Callable[[str, float], None], log: list[str]) -> None:
    """Read Salt's log as it comes: tell of finished states, keep warnings and errors, drop the rest unseen.

    Args:
        stream: the lines.
        on_state: called with each state's name and its milliseconds.
        log: where what is kept goes.
    """
    keep = False
    for line in stream:
        if done := COMPLETED.search(line):
            on_state(done["name"], float(done["ms"]))
        if level := MESSAGE.match(line):
            keep = level[1] != "INFO"
        elif not log:
            keep = True  # what is printed before logging starts, such as a traceback
        if keep:
            log.append(line.rstrip())


def read_answer(host_id: str, exit_code: int, answer: str, log: list[str]) -> Outcome:
    """Turn Salt's JSON into an outcome; an empty or unreadable one is a failure, whatever the exit code says.

    Example:
        >>> read_answer("app1", 0, "", []).ok
        False
    """
    outcome = Outcome(host_id, exit_code, log=log)
    try:
        returned = json.loads(answer)["local"]
    except (ValueError, KeyError, TypeError):
        outcome.errors = [answer.strip() or "Salt returned nothing"]
        return outcome
    if isinstance(returned, dict):
        outcome.states = sorted(returned.values(), key=lambda state: state["__run_num__"])
        if not returned:
            outcome.errors = ["Salt ran no state"]
    else:
        outcome.errors = [str(item) for item in (returned if isinstance(returned, list) else [returned])]
    return outcome


def explain(outcome: Outcome) -> str:
    """Say on one screen why an apply failed: host, state, file and line, cause, next command."""
    lines = [f"{outcome.host}: the apply failed (exit code {outcome.exit_code})"]
    for error in outcome.errors:
        lines += [f"  {line}" for line in str(error).splitlines()[:40]]
    for state in outcome.failed[:4]:
        name = state.get("__id__", state["name"])  # a state that another run kept from starting has none
        place = find_state(state.get("__sls__", "no file"), name)  # "No Top file" has none
        lines.append(f"  {name} ({place}), name: {state['name']}")
        said = str(state["comment"]).strip().splitlines()
        # What went wrong is said first, and an app's own log ends with its cause.
        shown = said if len(said) <= 46 else [*said[:16], f"… {len(said) - 46} lines …", *said[-30:]]
        lines += [f"      {line}" for line in shown]
    if len(outcome.failed) > 4:
        lines.append(f"  … and {len(outcome.failed) - 4} more, most of them for want of these")
    if not outcome.failed and outcome.log:
        lines += [f"  {line}" for line in outcome.log[-12:]]
    lines.append(f"  mend it, then:  bin/lab apply {outcome.host}    what the host says:  bin/lab logs {outcome.host}")
    return "\n".join(lines)


def find_state(sls: str, state_id: str) -> str:
    """Return 'salt/role/file.sls:line' for a state, as near as its source tells (ids can come from Jinja).

    Args:
        sls: the SLS in Salt's dotted words.
        state_id: the state's id.
    """
    stem = REPOSITORY / "salt" / Path(*sls.split("."))
    path = stem.with_suffix(".sls") if stem.with_suffix(".sls").exists() else stem / "init.sls"
    if not path.exists():
        return sls
    words = [word for word in re.split(r"\W+", state_id) if len(word) > 2]
    best, best_score = 1, 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line and not line[0].isspace() and line.rstrip().endswith(":"):
            score = 1000 if line.rstrip(":").strip("'\"") == state_id else sum(word in line for word in words)
            if score > best_score:
                best, best_score = number, score
    return f"{path.relative_to(REPOSITORY)}:{best}"
