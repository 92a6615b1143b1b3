"""Starts Salt's master with a check in front of what is asked of it (docs/security-master.md).

Salt 3008.3 lets any accepted minion answer jobs for other ids (as a syndic, as a "resource", by events with a prefix),
keep jobs in the master's cache that nobody gave, and say anything on its bus. Whoever reaches its port may do the same
for any id by a message that is neither "clear" nor "aes", may have it keep keys and sessions without end, and may end
each worker by one malformed message. It has no setting against any of it. So there are three checks: of a message as
it comes, of a request for a session, and of what is asked in one. What is not named below, or a newer Salt brings, is
refused. An answer counts when the master gave that job to that minion, whose key has made the connection, and once.

Each process looks Salt's classes up by name after the fork: so the names are what is replaced.
"""

from __future__ import annotations

import hmac
import logging
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import yaml

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
# A request for a session, before there is any. Its fields, each with the largest size that is kept; no others are.
ASKED_BY_STRANGERS = ("_auth",)
HANDSHAKE = {"id": 253, "pub": 2048, "nonce": 64, "token": 1024, "enc_algo": 64, "sig_algo": 64}
NEEDED = ("id", "pub", "nonce")
HOST_ID = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
PUBLIC_KEY = re.compile(r"-----BEGIN (RSA )?PUBLIC KEY-----\n([A-Za-z0-9+/=]{1,76}\n)+-----END (RSA )?PUBLIC KEY-----")
# What the answer to a job consists of. What the job is comes from the master's own record.
ANSWER = ("cmd", "id", "jid", "return", "retcode", "success", "out", "metadata")
EVENT_BYTES = 1024
# A request's largest size, by that of an answer: what minions ask is small, and so are the orders that root gives.
REQUEST = 4
# What a minion says to the socket from which it hears orders: a subscription.
SUBSCRIPTION = 1024


def refusal(load: Load, job: Load, answered: bool) -> str:
    """Say why an answer does not count; nothing when it does.

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
    """Return what is kept of an answer: of the job, what the master asked; what is too large becomes an error.

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
    """Return what is let onto the bus of what a minion says: that it has started. None: nothing.

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


def turned_away(payload: Any) -> str:
    """Say why a message is not even looked into; nothing when it may be.

    Salt takes whatever is not "clear" for the word of a minion that has a session, and checks that of "aes" only.

    Args:
        payload: the message as it came, from anybody.

    Example:
        >>> turned_away({"enc": "pub", "load": {"cmd": "_return", "id": "web1"}, "version": 3})
        'it is neither clear nor encrypted for a session'
    """
    if not isinstance(payload, dict) or not isinstance(payload.get("version"), int):
        return "it is no message of Salt's"
    kind, load = payload.get("enc"), payload.get("load")
    if kind == "clear":
        asked = load.get("cmd") if isinstance(load, dict) else None
        known = isinstance(asked, str) and asked in (*ASKED_IN_CLEAR, *ASKED_BY_STRANGERS)
        return "" if known else "nobody asks that in clear"
    if kind != "aes":
        return "it is neither clear nor encrypted for a session"
    sealed = isinstance(load, bytes) and is_id(payload.get("id"))
    return "" if sealed else "it does not say whose session it is for"


def is_id(name: Any) -> bool:
    """Tell whether a name may be a minion's id, as fleet.yaml and bin/bootstrap have them."""
    return isinstance(name, str) and len(name) <= HANDSHAKE["id"] and bool(HOST_ID.fullmatch(name))


def handshake(load: Load, algorithms: Load) -> Load | None:
    """Return what is kept of a request for a session; None when it is none that a minion of ours makes.

    Args:
        load: the request.
        algorithms: the master's own, `enc_algo` and `sig_algo`; a caller who wants weaker ones gets nothing.
    """
    kept = {field: load[field] for field in HANDSHAKE if field in load}
    if any(not isinstance(value, str | bytes) or len(value) > HANDSHAKE[field] for field, value in kept.items()):
        return None
    if any(not isinstance(kept.get(field), str) for field in NEEDED) or not is_id(kept["id"]):
        return None
    kept["pub"] = kept["pub"].strip()
    if not PUBLIC_KEY.fullmatch(kept["pub"]) or any(kept.get(name) != own for name, own in algorithms.items()):
        return None
    return {"cmd": "_auth", **kept}


def minions_of(fleet: Path) -> frozenset[str]:
    """Return the ids that fleet.yaml gives role minion; none, when it cannot be read.

    Args:
        fleet: the file.
    """
    try:
        hosts = yaml.safe_load(fleet.read_text(encoding="utf-8"))["hosts"]
        return frozenset(name for name, host in hosts.items() if "minion" in host["roles"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return frozenset()


class Fleet:
    """Whom the master knows: the minions of fleet.yaml, which is read again when it has changed, and who has a key.

    Args:
        fleet: fleet.yaml.
        keys: Salt's folder of keys.
    """

    def __init__(self, fleet: Path, keys: Path):
        self.file, self.keys = fleet, keys
        self.read: tuple[Any, frozenset[str]] = (None, frozenset())

    def accepted(self, name: str) -> bool:
        """Tell whether a person has accepted a key of this id."""
        return (self.keys / "minions" / name).is_file()

    def may_ask(self, name: str) -> bool:
        """Tell whether a session, and so a place among the pending keys, may be asked for under this id."""
        kept = ("minions", "minions_pre", "minions_rejected")
        return name in self._named() or any((self.keys / folder / name).is_file() for folder in kept)

    def _named(self) -> frozenset[str]:
        try:
            seen = self.file.stat()
        except OSError:
            return frozenset()
        mark = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
        if mark != self.read[0]:
            self.read = (mark, minions_of(self.file))
        return self.read[1]


def fleet_file(opts: Load) -> Path:
    """Return where fleet.yaml is: beside what the pillar is made of.

    Raises:
        SystemExit: the master's configuration names no site.
    """
    for entry in opts.get("ext_pillar", ()):
        if "saltern" in entry:
            return Path(entry["saltern"]["site"], "fleet.yaml")
    sys.exit("the master's configuration names no site (ext_pillar: saltern): whose keys may be pending?")


def unknown(exposed: Collection[str], allowed: Collection[str]) -> list[str]:
    """Return the names that are let through and that Salt does not have: this Salt is not the one they are for."""
    return sorted({*allowed} - {*exposed})


def guard(master: Any, payload: Any, job_dir: Callable[..., str]) -> None:
    """Put the checks in front of what is asked in a session, and of orders.

    Args:
        master: the module `salt.master`.
        payload: the module `salt.payload`.
        job_dir: `salt.utils.jid.jid_dir`.

    Raises:
        SystemExit: this Salt has other functions.
    """
    absent = unknown(master.AESFuncs.expose_methods, (*ASKED_BY_MINIONS, *NODDED_AT))
    absent += unknown(master.ClearFuncs.expose_methods, ASKED_IN_CLEAR)
    absent += unknown(master.AuthFuncs.expose_methods, ASKED_BY_STRANGERS)
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

        async def publish(self, clear_load: Load) -> Any:
            # Salt looks for the hosts that are meant, by patterns too, before it asks who wants to know.
            if not holds_key(clear_load.get("key"), self.key.values()):
                log.warning("An order without the master's key is refused")
                return {"error": {"name": "AuthorizationError", "message": "an order needs the master's key"}}
            return await super().publish(clear_load)

    master.AESFuncs, master.ClearFuncs = Checked, CheckedClear


def holds_key(shown: Any, keys: Collection[str]) -> bool:
    """Tell whether somebody has one of the keys that only root and the master's user can read."""
    told = shown.encode(errors="replace") if isinstance(shown, str) else b""
    return bool(told) and any(hmac.compare_digest(told, key.encode()) for key in keys)


def guard_sessions(master: Any, fleet: Fleet) -> None:
    """Put the check in front of requests for a session: of any other than the fleet's minions nothing is kept.

    Args:
        master: the module `salt.master`.
        fleet: whom the master knows.
    """

    class CheckedAuth(master.AuthFuncs):  # type: ignore[name-defined,misc]
        """What is left of the function for those who have no session yet."""

        expose_methods = ASKED_BY_STRANGERS

        async def _auth(self, load: Load, sign_messages: bool = False, version: int = 0) -> Any:
            own = {"enc_algo": self.opts["encryption_algorithm"], "sig_algo": self.opts["signing_algorithm"]}
            kept = handshake(load, own)
            if kept is None:
                log.warning("What asks for a session is no minion of ours: %.80r", load.get("id"))
                return {"enc": "clear", "load": {"ret": False}}
            if not fleet.may_ask(kept["id"]):
                log.warning("%s is not in the fleet with role minion: its key is not kept", kept["id"])
                return self._clear_signed_sync({"ret": False, "nonce": kept["nonce"]}, kept["sig_algo"])
            try:
                return await super()._auth(kept, sign_messages, version)
            except Exception as error:
                log.warning("A session for %s could not be made: %.200r", kept["id"], error)
                return {"enc": "clear", "load": {"ret": False}}

    master.AuthFuncs = CheckedAuth


def guard_messages(channel: Any, zeromq: Any, master: Any, fleet: Fleet) -> None:
    """Put the check in front of every message, and have none of them end or stop a process of the master.

    Args:
        channel: the module `salt.channel.server`.
        zeromq: the module `salt.transport.zeromq`.
        master: the module `salt.master`.
        fleet: whom the master knows.
    """

    class CheckedChannel(channel.ReqServerChannel):  # type: ignore[name-defined,misc]
        """Each worker's end of the line."""

        async def handle_message(self, payload: Any) -> Any:
            why = turned_away(payload)
            # Salt would make a session, a file of its own, for each name that it has never heard.
            if not why and payload["enc"] == "aes" and not fleet.accepted(payload["id"]):
                why = f"{payload['id']} has no accepted key"
            if why:
                log.warning("A message was not looked into: %s", why)
                return "bad load"
            return await super().handle_message(payload)

    class Steady(zeromq.RequestServer):  # type: ignore[name-defined,misc]
        """A worker that does not answer a message, because of an error, never gets another one: so it answers."""

        __module__ = zeromq.RequestServer.__module__  # by which Salt knows that no router beside zeromq's is needed

        async def handle_message(self, stream: Any, payload: bytes) -> Any:
            try:
                return await super().handle_message(stream, payload)
            except Exception as error:
                log.error("A message could not be read: %.200r", error)
                return "bad load"

        def encode_payload(self, payload: Any) -> bytes:
            try:
                return super().encode_payload(payload)
            except Exception as error:
                log.error("An answer could not be sent: %.200r", error)
                return super().encode_payload("bad load")

    class Plain(master.RequestRouter):  # type: ignore[name-defined,misc]
        """All go to the one pool of workers. Salt's loads the master's key for each message that wants it."""

        def _extract_command(self, payload: Any) -> str:
            return ""

    channel.ReqServerChannel, zeromq.RequestServer, master.RequestRouter = CheckedChannel, Steady, Plain


def bound_messages(zmq: Any, most_bytes: int) -> None:
    """Have the sockets that minions connect to end a connection by which more than this comes at once.

    Args:
        zmq: the module, with `zmq.asyncio`.
        most_bytes: of one message, before it is decrypted or even read; where minions only listen, SUBSCRIPTION.
    """
    bounds = {zmq.ROUTER: most_bytes, zmq.PUB: SUBSCRIPTION}

    def bounded(context: Any) -> Any:
        class Bounded(context):  # type: ignore[misc]
            def socket(self, kind: int, *arguments: Any, **more: Any) -> Any:
                made = super().socket(kind, *arguments, **more)
                if kind in bounds:
                    made.setsockopt(zmq.MAXMSGSIZE, bounds[kind])
                return made

        return Bounded

    zmq.Context, zmq.asyncio.Context = bounded(zmq.Context), bounded(zmq.asyncio.Context)


def fits(opts: Load) -> None:
    """See that messages come by the way on which the checks are.

    Args:
        opts: the master's configuration.

    Raises:
        SystemExit: they do not.
    """
    if opts["transport"] != "zeromq" or len(opts["worker_pools"]) != 1:
        sys.exit(
            "the master's configuration has another transport or worker_pools: the checks are for one pool over zeromq"
        )


def main() -> None:
    """Start the master, as salt-master does.

    Raises:
        SystemExit: the configuration, or this Salt, is not what the checks are for.
    """
    import salt.channel.server
    import salt.config
    import salt.payload
    import salt.scripts
    import salt.transport.zeromq
    import salt.utils.jid

    import salt.master

    opts = salt.config.master_config("/etc/salt/master")
    fits(opts)
    fleet = Fleet(fleet_file(opts), Path(opts["pki_dir"]))
    guard(salt.master, salt.payload, salt.utils.jid.jid_dir)
    guard_sessions(salt.master, fleet)
    guard_messages(salt.channel.server, salt.transport.zeromq, salt.master, fleet)
    bound_messages(salt.transport.zeromq.zmq, REQUEST * opts["max_event_size"])
    sys.argv[0] = "salt-master"
    salt.scripts.salt_master()


if __name__ == "__main__":
    main()
