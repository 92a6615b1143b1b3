"""The check in front of the master: all that Salt exposes is known, and only what our minions need is let through."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import salt.cache
import salt.channel.server
import salt.config
import salt.payload
import salt.transport.zeromq

import salt.master

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "salt/master/files/guarded_master.py"
spec = importlib.util.spec_from_file_location("guarded_master", SOURCE)
assert spec and spec.loader
guarded: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(guarded)

# As Salt brings them, read before any test replaces them. What minions and strangers call: by name, in these.
FUNCTIONS = salt.master.TransportMethods
CLASSES = {
    name: kind.expose_methods
    for name, kind in vars(salt.master).items()
    if inspect.isclass(kind) and issubclass(kind, FUNCTIONS) and kind is not FUNCTIONS
}
# What their messages pass on the way there.
DOORS = {
    f"{name}": sorted(method for method, what in vars(kind).items() if inspect.isroutine(what) and method[0] != "_")
    for module in (salt.channel.server, salt.transport.zeromq)
    for name, kind in vars(module).items()
    if inspect.isclass(kind) and kind.__module__ == module.__name__
}
PAGE = (ROOT / "docs/security-master.md").read_text()
LET_THROUGH = {*guarded.ASKED_BY_MINIONS, *guarded.NODDED_AT, *guarded.ASKED_IN_CLEAR, *guarded.ASKED_BY_STRANGERS}
JOB = {"fun": "test.ping", "arg": [], "user": "root", "Minions": ["web1", "web2"]}


@pytest.mark.parametrize("name", [name for names in CLASSES.values() for name in names])
def test_the_page_has_a_line_for_each_method_that_salt_exposes(name: str) -> None:
    """A newer Salt with another method makes this red; until somebody has read it, it is refused."""
    (line,) = [line for line in PAGE.splitlines() if re.match(rf"\| (`\w+`, )*`{name}`", line)]
    assert ("refused" in line.split(" | ")[1]) is (name not in LET_THROUGH), line
    assert "::test_" in line


def test_the_functions_that_others_call_by_name_are_these() -> None:
    assert set(CLASSES) == {"AESFuncs", "ClearFuncs", "AuthFuncs"}, "another one needs a check of its own"


@pytest.mark.parametrize("name", DOORS)
def test_the_page_has_a_line_for_each_class_that_messages_pass(name: str) -> None:
    """A newer Salt with another class or method on the way makes this red until somebody has read it."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}`: ")]
    assert re.findall(r"`(\w+)`", line.split(" | ")[0])[1:] == DOORS[name]
    assert "::test_" in line


def test_the_service_starts_the_check() -> None:
    unit = (ROOT / "salt/master/files/salt-master.service").read_text()
    assert f"ExecStart=/opt/saltern/salt/bin/python -I /usr/local/lib/saltern/{SOURCE.name}" in unit


def fake_master(answers: dict[str, Any] | None = None) -> Any:
    """What is left of salt.master for this: who is asked what."""

    class Functions:
        expose_methods = CLASSES["AESFuncs"]

        def __init__(self, place: Path):
            self.opts = {
                "master_job_cache": "local_cache",
                "cachedir": str(place),
                "hash_type": "",
                "max_event_size": 500,
            }
            self.mminion = SimpleNamespace(returners={"local_cache.get_load": lambda jid: JOB if jid == "1" else {}})
            self.asked: list[Any] = []

        def get_method(self, name: str) -> Any:
            return name if name in self.expose_methods else None

        def run_func(self, func: str, load: Any) -> Any:
            self.asked.append((func, load))
            return "done", {"fun": "send"}

    class Clear:
        expose_methods = CLASSES["ClearFuncs"]

        def __init__(self) -> None:
            self.key, self.given = {"root": "the key"}, []  # type: ignore[var-annotated]

        async def publish(self, load: Any) -> str:
            self.given.append(load)
            return "given"

    auth = type("Auth", (), {"expose_methods": CLASSES["AuthFuncs"]})
    return SimpleNamespace(AESFuncs=Functions, ClearFuncs=Clear, AuthFuncs=auth)


@pytest.fixture
def functions(tmp_path: Path) -> Any:
    master = fake_master()
    payload = SimpleNamespace(dumps=lambda value: repr(value).encode())
    guarded.guard(master, payload, lambda jid, folder, _: f"{folder}/{jid}")
    return master.AESFuncs(tmp_path)


def refused(functions: Any, func: str, load: dict[str, Any]) -> bool:
    before = len(functions.asked)
    functions.run_func(func, load)
    return len(functions.asked) == before


@pytest.mark.parametrize("name", [*CLASSES["AESFuncs"], "_something_new", "run_func", "__init__"])
def test_what_no_minion_of_ours_asks_is_not_even_a_method(functions: Any, name: str) -> None:
    known = name in (*guarded.ASKED_BY_MINIONS, *guarded.NODDED_AT)
    assert bool(functions.get_method(name)) is known
    if not known:
        assert refused(functions, name, {"id": "web1"})


def test_orders_need_the_masters_key_and_nothing_else_is_left_in_clear() -> None:
    master = fake_master()
    guarded.guard(master, None, str)
    assert master.ClearFuncs.expose_methods == ("publish", "ping")
    clear, order = master.ClearFuncs(), {"fun": "test.ping", "tgt": "(a+)+$", "tgt_type": "pcre", "user": "root"}
    for key in ("another", "", None, b"the key", ["the key"], "the key\ud800"):
        said = asyncio.run(clear.publish({**order, "key": key}))
        assert said["error"]["name"] == "AuthorizationError" and clear.given == [], key
    assert asyncio.run(clear.publish({**order, "key": "the key"})) == "given"


@pytest.mark.parametrize(
    "load",
    [
        {"id": "db1", "jid": "1"},  # was not asked
        {"id": "web1", "jid": "2"},  # no such job
        {"id": "web1", "jid": "req"},
        {"id": "web1", "jid": "../1"},
        {"id": "web1", "jid": 1},
        {"id": "web1", "jid": "nocache"},
        {"id": "web1"},
    ],
)
def test_an_answer_to_no_job_of_this_minion_does_not_count(functions: Any, load: dict[str, Any]) -> None:
    assert refused(functions, "_return", {"return": True, **load})


def test_a_second_answer_does_not_count(functions: Any, tmp_path: Path) -> None:
    assert not refused(functions, "_return", {"id": "web1", "jid": "1", "return": True})
    (tmp_path / "jobs/1/web1").mkdir(parents=True)
    (tmp_path / "jobs/1/web1/return.p").touch()
    assert refused(functions, "_return", {"id": "web1", "jid": "1", "return": True})
    assert not refused(functions, "_return", {"id": "web2", "jid": "1", "return": True})


def test_of_an_answer_only_what_the_minion_can_know_is_kept(functions: Any) -> None:
    lie = {
        "resource_id": "db1",
        "user": "root",
        "tgt": "*",
        "fun": "cmd.run",
        "fun_args": ["x"],
        "sig": b"",
        "load": {},
    }
    functions.run_func("_return", {"cmd": "_return", "id": "web1", "jid": "1", "return": 5, "retcode": 0, **lie})
    kept = functions.asked[-1][1]
    assert kept == {
        "cmd": "_return",
        "id": "web1",
        "jid": "1",
        "return": 5,
        "retcode": 0,
        "fun": "test.ping",
        "fun_args": [],
    }


def test_an_answer_that_is_too_large_is_an_error_that_says_so(functions: Any) -> None:
    functions.run_func(
        "_return", {"id": "web1", "jid": "1", "return": "x" * 1000, "out": "y" * 1000, "metadata": "z" * 1000}
    )
    kept = functions.asked[-1][1]
    assert "was thrown away" in kept["return"] and (kept["retcode"], kept["success"]) == (1, False)
    assert len(repr(kept)) < 400


@pytest.mark.parametrize(
    "more",
    [
        {"tag": "salt/job/1/ret/db1", "data": {}},
        {"tag": "salt/minion/db1/start", "data": "x"},
        {"events": [{"tag": "x", "data": {"minions": ["db1"], "jid": "1"}}]},
        {"events": [], "tag": "minion_start", "data": "x"},
        {"pretag": "salt/job/1/ret", "events": [{"tag": "db1", "data": {}}]},
        {"tag": ["minion_start"], "data": "x"},
        {},
    ],
)
def test_a_minion_says_nothing_but_that_it_has_started(functions: Any, more: dict[str, Any]) -> None:
    assert refused(functions, "_minion_event", {"id": "web1", **more})


def test_what_it_says_as_it_starts_is_bounded_text(functions: Any) -> None:
    load = {
        "id": "web1",
        "tag": "salt/minion/web1/start",
        "data": {"minions": ["db1"] * 1000},
        "pretag": "x",
        "jid": "1",
    }
    functions.run_func("_minion_event", load)
    kept = functions.asked[-1][1]
    assert len(kept.pop("data")) == guarded.EVENT_BYTES
    assert kept == {"cmd": "_minion_event", "id": "web1", "tag": "salt/minion/web1/start", "pretag": None}


def test_a_salt_without_these_methods_does_not_start() -> None:
    master = fake_master()
    master.AESFuncs.expose_methods = ("_return",)
    with pytest.raises(SystemExit, match=r"this Salt has no .*_pillar"):
        guarded.guard(master, None, str)


def test_one_message_is_bounded_before_it_is_read() -> None:
    import zmq
    import zmq.asyncio

    own = SimpleNamespace(Context=zmq.asyncio.Context)
    kinds = {name: getattr(zmq, name) for name in ("ROUTER", "PUB", "MAXMSGSIZE")}
    module = SimpleNamespace(Context=zmq.Context, asyncio=own, **kinds)
    guarded.bound_messages(module, 4096)
    for make in (module.Context, module.asyncio.Context):
        with make() as context:
            for kind, most in ((zmq.ROUTER, 4096), (zmq.PUB, guarded.SUBSCRIPTION), (zmq.DEALER, -1), (zmq.PULL, -1)):
                with context.socket(kind) as made:
                    assert made.getsockopt(zmq.MAXMSGSIZE) == most


# What comes in: a message of anybody, as it came.
SEALED = {"enc": "aes", "load": b"x" * 64, "id": "web1", "version": 3}
CLEAR = {"enc": "clear", "load": {"cmd": "ping"}, "version": 3}
FORGED = {"cmd": "_return", "id": "web1", "jid": "1", "return": "forged"}


@pytest.mark.parametrize(
    "payload",
    [
        # Salt takes these for minions that have a session.
        *({**CLEAR, "enc": enc, "load": FORGED} for enc in ("pub", "AES", "", "none", None, 5, ["clear"], {}, b"aes")),
        # Salt stops a worker for good at these.
        *({**CLEAR, "version": version} for version in ([], {}, None, "3", "x", b"3", 3.0)),
        {"enc": "clear", "load": {"cmd": "ping"}},
        *(
            {**CLEAR, "load": load}
            for load in ([], "ping", b"ping", None, {}, {"cmd": ["ping"]}, {"cmd": None}, FORGED)
        ),
        # Salt makes a file for each of these names.
        *(
            {**SEALED, "id": name}
            for name in ("", ".", "..", "a/b", "a\0b", "x" * 254, "W", "-", 5, None, ["web1"], b"web1")
        ),
        {key: value for key, value in SEALED.items() if key != "id"},
        *({**SEALED, "load": load} for load in (FORGED, "text", None, [])),
        *({**SEALED, "id": name} for name in ("db9", "pending", "minions")),
        *([], "", None, b"", 5, {}),
    ],
)
def test_a_message_of_a_stranger_is_not_looked_into(channel: Any, payload: Any) -> None:
    assert asyncio.run(channel.handle_message(payload)) == "bad load"
    assert channel.passed == []


@pytest.mark.parametrize(
    "payload", [SEALED, CLEAR, {**CLEAR, "load": {"cmd": "publish"}}, {**CLEAR, "load": {"cmd": "_auth"}}]
)
def test_what_salts_own_programs_and_minions_send_passes(channel: Any, payload: Any) -> None:
    assert asyncio.run(channel.handle_message(payload)) == "passed"


@pytest.fixture
def fleet(tmp_path: Path) -> Any:
    """Two minions, of which web1 has an accepted key, and a host that is none; one that has left has a pending key."""
    roles = {"web1": ["base", "minion"], "db1": ["base", "minion"], "old": ["base"]}
    hosts = "".join(f"  {name}: {{address: 192.0.2.1, roles: {named}}}\n" for name, named in roles.items())
    (tmp_path / "fleet.yaml").write_text(f"hosts:\n{hosts}")
    for folder, name in (("minions", "web1"), ("minions_pre", "pending")):
        (tmp_path / "pki" / folder).mkdir(parents=True)
        (tmp_path / "pki" / folder / name).write_text(KEYS[0])
    return guarded.Fleet(tmp_path / "fleet.yaml", tmp_path / "pki")


def body(number: int) -> str:
    return f"-----BEGIN PUBLIC KEY-----\n{('A' * 64 + chr(10)) * 6}{number:08}\n-----END PUBLIC KEY-----"


KEYS = [body(number) for number in range(4)]


@pytest.fixture
def channel(fleet: Any) -> Any:
    class Channel:
        def __init__(self) -> None:
            self.passed: list[Any] = []

        async def handle_message(self, payload: Any) -> str:
            self.passed.append(payload)
            return "passed"

    module = SimpleNamespace(ReqServerChannel=Channel)
    zeromq, master = SimpleNamespace(RequestServer=object), SimpleNamespace(RequestRouter=object)
    guarded.guard_messages(module, zeromq, master, fleet)
    return module.ReqServerChannel()


def test_no_error_leaves_a_worker_without_an_answer() -> None:
    """Salt's worker waits for ever to send what it never has, and takes no other message."""

    class Server:
        async def handle_message(self, stream: Any, payload: bytes) -> Any:
            raise KeyError("ts")

        def encode_payload(self, payload: Any) -> bytes:
            return salt.payload.dumps(payload)

    zeromq = SimpleNamespace(RequestServer=Server)
    rest = SimpleNamespace(ReqServerChannel=object), SimpleNamespace(RequestRouter=object)
    guarded.guard_messages(rest[0], zeromq, rest[1], None)
    server = zeromq.RequestServer()
    assert asyncio.run(server.handle_message(None, b"")) == "bad load"
    assert salt.payload.loads(server.encode_payload({"x": object()})) == "bad load"


def test_salt_starts_no_second_router() -> None:
    rest = SimpleNamespace(ReqServerChannel=object), SimpleNamespace(RequestRouter=object)
    zeromq = SimpleNamespace(RequestServer=salt.transport.zeromq.RequestServer)
    guarded.guard_messages(rest[0], zeromq, rest[1], None)
    made = zeromq.RequestServer({})
    assert type(made) is not salt.transport.zeromq.RequestServer
    assert salt.channel.server._transport_has_builtin_router(made)


def test_no_message_has_the_router_load_the_masters_key() -> None:
    opts = {"worker_pools": {"default": {"worker_count": 2, "commands": ["*"]}}}
    master = SimpleNamespace(RequestRouter=salt.master.RequestRouter)
    guarded.guard_messages(
        SimpleNamespace(ReqServerChannel=object), SimpleNamespace(RequestServer=object), master, None
    )
    router = master.RequestRouter(opts, secrets={"aes": None})
    for payload in (SEALED, CLEAR, {"enc": "pub", "load": b"x"}, {"load": {"cmd": []}}, [], None, 5):
        assert router.route_request(payload) == "default"


def test_the_fleet_is_read_again_when_it_has_changed(fleet: Any) -> None:
    assert [name for name in ("web1", "db1", "pending", "old", "new") if fleet.may_ask(name)] == [
        "web1",
        "db1",
        "pending",
    ]
    fleet.file.write_text("hosts: {new: {roles: [base, minion]}}")
    assert fleet.may_ask("new") and not fleet.may_ask("db1") and fleet.may_ask("web1"), "it has a key"
    for broken in ("hosts: [", "[]", "hosts: {db1: }", "", "hosts: {db1: {roles: 5}}", "\xff"):
        fleet.file.write_bytes(broken.encode("latin-1"))
        assert fleet.may_ask("web1") and not fleet.may_ask("db1"), broken
    fleet.file.unlink()
    assert fleet.may_ask("web1") and not fleet.may_ask("new")


@pytest.fixture
def sessions(fleet: Any, tmp_path: Path) -> Any:
    """Salt's own handshake, with real files, behind the check."""
    opts = dict(salt.config.DEFAULT_MASTER_OPTS) | {
        "pki_dir": str(tmp_path / "pki"),
        "cachedir": str(tmp_path / "cache"),
        "extension_modules": str(tmp_path / "ext"),
        "encryption_algorithm": "OAEP-SHA224",
        "signing_algorithm": "PKCS1v15-SHA224",
        "auth_events": False,
        "user": None,
        "id": "master_master",
        "__role": "master",
    }
    master = SimpleNamespace(AuthFuncs=salt.master.AuthFuncs)
    guarded.guard_sessions(master, fleet)
    made = master.AuthFuncs.__new__(master.AuthFuncs)
    made.opts, made.cache = opts, salt.cache.Cache(opts, driver=opts["keys.cache_driver"])
    made.auto_key = SimpleNamespace(check_autoreject=lambda who: False, check_autosign=lambda who, grains: False)
    made.cache_cli, made.ckminions, made.sessions = False, None, {}
    made.master_key = SimpleNamespace(sign=lambda text, algorithm: b"signed")
    return made


def ask(sessions: Any, **load: Any) -> Any:
    whole = {"cmd": "_auth", "nonce": "n" * 32, "enc_algo": "OAEP-SHA224", "sig_algo": "PKCS1v15-SHA224", **load}
    said = asyncio.run(sessions._auth(whole, True, 3))["load"]
    return (salt.payload.loads(said) if isinstance(said, bytes) else said)["ret"]


def kept(sessions: Any) -> dict[str, int]:
    """Each file that the master has, with its size."""
    top = Path(sessions.opts["pki_dir"]).parent
    return {str(path.relative_to(top)): path.stat().st_size for path in top.rglob("*") if path.is_file()}


def test_of_strangers_no_key_is_kept(sessions: Any) -> None:
    before = kept(sessions)
    for number in range(300):
        assert ask(sessions, id=f"stranger{number}", pub=KEYS[number % 4]) is False
    assert ask(sessions, id="old", pub=KEYS[0]) is False, "a host of the fleet that is no minion"
    assert kept(sessions) == before


def test_one_key_is_pending_for_a_minion_of_the_fleet_and_one_is_denied(sessions: Any) -> None:
    assert ask(sessions, id="db1", pub=KEYS[0]) is True
    for number in range(300):
        assert ask(sessions, id="db1", pub=body(number + 10)) is False
        assert ask(sessions, id="web1", pub=body(number + 10)) is False
    files = kept(sessions)
    assert {path for path in files if "pki" in path} == {
        f"pki/{path}"
        for path in (
            "minions/web1",
            "minions_pre/db1",
            "minions_pre/pending",
            "minions_denied/db1",
            "minions_denied/web1",
        )
    }
    assert max(files.values()) <= 2048
    assert ask(sessions, id="db1", pub=KEYS[0]) is True, "it may go on asking"


@pytest.mark.parametrize(
    "wrong",
    [
        *({"pub": pub} for pub in ("", "x", b"x", None, [], KEYS[0] + "\n" + "A" * 2000, KEYS[0].replace("A", "\x1b"))),
        {"pub": KEYS[0].replace("PUBLIC", "PRIVATE")},
        {"pub": KEYS[0] + "\n" + KEYS[1]},
        *(
            {"id": name}
            for name in ("", ".", "..", "../minions/web1", "a/b", "db1\n", "DB1", "x" * 300, 5, None, ["db1"], b"db1")
        ),
        *({"nonce": nonce} for nonce in ("n" * 65, None, [], 5, b"n")),
        *({"sig_algo": name} for name in ("PKCS1v15-SHA1", None, [], "x" * 65)),
        *({"enc_algo": name} for name in ("OAEP-SHA1", None, {}, "x" * 65)),
        *({"token": token} for token in (b"x" * 1025, [], 5)),
    ],
)
def test_what_is_no_request_of_a_minion_of_ours_is_refused(sessions: Any, wrong: dict[str, Any]) -> None:
    before = kept(sessions)
    assert ask(sessions, **{"id": "db1", "pub": KEYS[0], **wrong}) is False
    assert kept(sessions) == before


def test_a_request_that_lacks_something_is_refused_and_what_is_more_is_not_kept(sessions: Any) -> None:
    whole = {"id": "db1", "pub": KEYS[0], "nonce": "n"}
    own = {"enc_algo": "OAEP-SHA224", "sig_algo": "PKCS1v15-SHA224"}
    for field in whole:
        assert guarded.handshake({**{key: value for key, value in whole.items() if key != field}, **own}, own) is None
    more = {"autosign_grains": {"x": "y" * 10_000}, "state": "accepted", "junk": "z" * 10_000}
    assert guarded.handshake({**whole, **own, **more}, own) == {"cmd": "_auth", **whole, **own}


def test_an_error_in_the_handshake_is_an_answer(sessions: Any) -> None:
    """A token that cannot be read is one in Salt 3008.3, for whoever knows an accepted minion's public key."""
    assert ask(sessions, id="web1", pub=KEYS[0], token=b"x") is False


@pytest.mark.parametrize("more", [{"transport": "tcp"}, {"worker_pools": {"a": {}, "b": {}}}, {"worker_pools": {}}])
def test_the_checks_are_for_one_pool_over_zeromq(more: dict[str, Any]) -> None:
    opts = {"transport": "zeromq", "worker_pools": {"default": {}}}
    guarded.fits(opts)
    with pytest.raises(SystemExit, match="the checks are for one pool over zeromq"):
        guarded.fits(opts | more)


def test_lines_and_memory_are_bounded_by_the_unit() -> None:
    unit = (ROOT / "salt/master/files/salt-master.service").read_text()
    assert re.search("^LogRateLimitBurst=[1-9]", unit, re.MULTILINE) and re.search(
        "^MemoryMax=[1-9]", unit, re.MULTILINE
    )
    assert "LogRateLimitIntervalSec=30" in unit


@pytest.mark.parametrize("opts", [{}, {"ext_pillar": []}, {"ext_pillar": [{"other": {}}]}])
def test_a_master_without_a_site_does_not_start(opts: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match="names no site"):
        guarded.fleet_file(opts)
