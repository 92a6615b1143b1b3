"""Starts Salt's master with a check in front of what minions may ask of it (docs/security-master.md).

Salt 3008.3 lets any accepted minion answer jobs for other ids (as a syndic, as a "resource", by events with a prefix),
keep jobs in the master's cache that nobody gave, and say anything on its bus. It has no setting against it. The names
below are all that a minion of ours asks; whatever else there is, or a newer Salt brings, is refused. An answer counts
when the master gave that job to that minion, whose key has made the connection, and once.

Each worker process makes its own `AESFuncs`, looked up by name after the fork: so the name is what is replaced.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

Load = dict[str, Any]

# Encrypted with the session key of the minion, which the id of the request was compared with.
ASKED_BY_MINIONS = (
    "_pillar",
    "_return",
    "_minion_event",
    "_master_opts",
    "_master_tops",
    "_serve_file",
    "_file_find",
    "_file_hash",
    "_file_hash_and_stat",
    "_file_list",
    "_file_list_emptydirs",
    "_dir_list",
    "_symlink_list",
    "_file_envs",
)
# Told by every minion that starts. None of ours stands for other devices: it is not written down, and no error either.
NODDED_AT = ("_register_resources",)
# In clear; an order counts by the key that only root on the master reads. Runners and wheel run where they are called.
ASKED_IN_CLEAR = ("publish", "ping")
# What the answer to a job consists of. What the job is comes from the master's own record.
ANSWER = ("cmd", "id", "jid", "return", "retcode", "success", "out", "metadata")
EVENT_BYTES = 1024
# A request's largest size, by that of an answer: what minions ask is small, and so are the orders that root gives.
REQUEST = 4


def refusal(load: Load, job: Load, answered: bool) -> str:
    """Says why an answer does not count; nothing when it does.

    Args:
        load: the answer; its id is that of the minion that sent it.
        job: the master's record of the job, empty when it has none.
        answered: whether the minion has answered it before.

    Example:
        >>> refusal({"id": "web1"}, {"fun": "test.ping", "Minions": ["db1"]}, False)
        'it was not asked'
    """
    if not job.get("fun"):
        return "there is no such job"
    if load["id"] not in job.get("Minions", ()):
        return "it was not asked"
    return "it has answered already" if answered else ""


def cleaned(load: Load, job: Load, most_bytes: int, size: Callable[[Any], int]) -> Load:
    """Answers what is kept of an answer: of the job, what the master asked; what is too large becomes an error.

    Args:
        load: the answer.
        job: the master's record of the job.
        most_bytes: how large it may be.
        size: tells how large a value is.
    """
    kept = {key: load[key] for key in ANSWER if key in load}
    kept |= {"fun": job["fun"], "fun_args": job.get("arg", [])}
    found = size(kept)
    if found <= most_bytes:
        return kept
    text = f"an answer of {found} bytes was thrown away: the master keeps at most {most_bytes} (max_event_size)"
    bare = {key: kept[key] for key in ("cmd", "id", "jid", "fun") if key in kept}
    return bare | {"fun_args": kept["fun_args"], "return": text, "retcode": 1, "success": False, "out": "nested"}


def event(load: Load) -> Load | None:
    """Answers what is let onto the bus of what a minion says: that it has started. None: nothing.

    Args:
        load: what it says; its id is that of the minion that sent it.

    Example:
        >>> event({"id": "web1", "tag": "salt/job/1/ret/db1", "data": "x"}) is None
        True
    """
    who, tag, data = load["id"], load.get("tag"), load.get("data")
    if "events" in load or tag not in ("minion_start", f"salt/minion/{who}/start"):
        return None
    return {"cmd": "_minion_event", "id": who, "tag": tag, "data": str(data)[:EVENT_BYTES], "pretag": None}


def unknown(exposed: Collection[str], allowed: Collection[str]) -> list[str]:
    """Answers the names that are let through and that Salt does not have: this Salt is not the one they are for."""
    return sorted({*allowed} - {*exposed})


def guard(master: Any, payload: Any, job_dir: Callable[..., str]) -> None:
    """Puts the checks in front of the master's functions.

    Args:
        master: the module `salt.master`.
        payload: the module `salt.payload`.
        job_dir: `salt.utils.jid.jid_dir`.

    Raises:
        SystemExit: this Salt has other functions.
    """
    absent = unknown(master.AESFuncs.expose_methods, (*ASKED_BY_MINIONS, *NODDED_AT))
    absent += unknown(master.ClearFuncs.expose_methods, ASKED_IN_CLEAR)
    if absent:
        sys.exit(f"this Salt has no {', '.join(absent)}: the check of what minions ask is for another one")

    class Checked(master.AESFuncs):  # type: ignore[name-defined,misc]
        """What is left of the functions for minions."""

        expose_methods = (*ASKED_BY_MINIONS, *NODDED_AT)

        def run_func(self, func: str, load: Load) -> Any:
            if func in NODDED_AT:
                return True, {"fun": "send"}
            kept = self._kept(func, load) if func in ASKED_BY_MINIONS else None
            if kept is None:
                return {}, {"fun": "send"}
            return super().run_func(func, kept)

        def _kept(self, func: str, load: Load) -> Load | None:
            if func == "_minion_event":
                return event(load)
            return self._answer(load) if func == "_return" else load

        def _answer(self, load: Load) -> Load | None:
            jid, who = load.get("jid"), load["id"]
            if not isinstance(jid, str) or not jid.isdecimal():
                return None  # salt-call's own, which are nobody's business
            job = self.mminion.returners[f"{self.opts['master_job_cache']}.get_load"](jid)
            place = Path(job_dir(jid, str(Path(self.opts["cachedir"], "jobs")), self.opts["hash_type"]))
            why = refusal(load, job, (place / who / "return.p").exists())
            if why:
                # Whoever runs salt-call on a minion gets the first; nobody honest the second.
                told = log.warning if job else log.info
                told("An answer of %s to job %s does not count: %s", who, jid, why)
                return None
            return cleaned(load, job, self.opts["max_event_size"], lambda value: len(payload.dumps(value)))

    class CheckedClear(master.ClearFuncs):  # type: ignore[name-defined,misc]
        """What is left of the functions for those who have no session."""

        expose_methods = ASKED_IN_CLEAR

    master.AESFuncs, master.ClearFuncs = Checked, CheckedClear


def bound_messages(zmq: Any, most_bytes: int) -> None:
    """Has the socket that minions connect to end a connection by which more than this comes at once.

    Args:
        zmq: the module.
        most_bytes: of one message, before it is decrypted or even read.
    """

    class Bounded(zmq.Context):  # type: ignore[name-defined,misc]
        def socket(self, kind: int, *arguments: Any, **more: Any) -> Any:
            made = super().socket(kind, *arguments, **more)
            if kind == zmq.ROUTER:
                made.setsockopt(zmq.MAXMSGSIZE, most_bytes)
            return made

    zmq.Context = Bounded


def main() -> None:
    """Starts the master, as salt-master does."""
    import salt.config
    import salt.payload
    import salt.scripts
    import salt.transport.zeromq
    import salt.utils.jid

    import salt.master

    most = salt.config.master_config("/etc/salt/master")["max_event_size"]
    guard(salt.master, salt.payload, salt.utils.jid.jid_dir)
    bound_messages(salt.transport.zeromq.zmq, REQUEST * most)
    sys.argv[0] = "salt-master"
    salt.scripts.salt_master()


if __name__ == "__main__":
    main()
