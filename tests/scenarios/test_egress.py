"""What an app may call, as its file says it: the internet, a list, none; and new rules hold for old connections."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import change_app

from lab.apply import apply, explain
from lab.host import Host
from lab.lab import Lab

PORTS = (8400, 8401)
TAKES_AWAY = {"what nobody needs any more"}  # the last state, when nothing that was started with it runs
CALL = "import socket; socket.create_connection(({address!r}, {port}), 3).recv(1)"
# Sends a byte and waits for it to come back, until that fails.
GOES_ON = """
import socket, time
with socket.create_connection(({address!r}, {port}), 3) as server:
    while server.send(b"x") and server.recv(1):
        time.sleep(0.05)
"""


@contextmanager
def answering(address: str, port: int) -> Iterator[None]:
    """Have an address of this machine answer. At the end the port is free: its thread is woken, or it would keep it."""
    listener = socket.create_server((address, port))
    threading.Thread(target=echo, args=(listener,), daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def echo(listener: socket.socket) -> None:
    """Say one byte to whoever connects, and then what they say."""

    def answer(client: socket.socket) -> None:
        with client:
            said = b"!"
            while said:
                try:
                    client.sendall(said)
                    said = client.recv(100)
                except OSError:
                    return

    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(client,), daemon=True).start()


@pytest.fixture(scope="module")
def public(lab: Lab) -> Iterator[str]:
    """An address that stands for the internet: a public one that this machine has, where two ports answer."""
    address = f"11.{str(lab.network.gateway).partition('.')[2]}"
    where = [f"{address}/32", "dev", lab.network.bridge]
    subprocess.run(["ip", "address", "replace", *where], check=True)
    with answering(address, PORTS[0]), answering(address, PORTS[1]):
        yield address
    subprocess.run(["ip", "address", "delete", *where], check=True)


def called(one: Host, address: str, *ports: int) -> list[int]:
    """The ports that the app reached: by a one-off command, in the app's sandbox, as `django.manage` runs one."""
    tries = "\n".join(
        f"try:\n  {CALL.format(address=address, port=port)}\n  print('reached', {port})\nexcept OSError as e: print(e)"
        for port in ports
    )
    command = ["salt-call", "--out=json", "--", "django.manage", "demo", "shell", "-c", tries]
    done = one.execute(command, capture=True, cwd="/srv/saltern")
    assert done.returncode == 0, done.stdout + done.stderr
    return [port for port in ports if f"reached {port}" in json.loads(done.stdout)["local"]["output"]]


def applied(one: Host, path: Path, egress: object) -> None:
    """The firewall, and what remembers and takes away: half the time of an apply."""
    change_app(path, {"egress": egress})
    command = ["salt-call", "--retcode-passthrough", "state.apply", "base.needs,base.firewall"]
    done = one.execute(command, capture=True, cwd="/srv/saltern")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow("trixie")
def test_an_app_calls_the_internet_and_as_its_file_says_less_or_more(
    one: Host, demo: Path, public: str, lab: Lab
) -> None:
    machine = str(lab.network.gateway)  # a private address beside the fleet's
    with answering(machine, PORTS[0]):
        assert called(one, public, *PORTS) == [*PORTS]
        assert called(one, machine, PORTS[0]) == []
        applied(one, demo, [{"to": public, "ports": [PORTS[1]]}])
        assert called(one, public, *PORTS) == [PORTS[1]]
        applied(one, demo, ["internet", {"to": machine, "ports": [PORTS[0]]}])
        assert called(one, public, *PORTS) == [*PORTS]
        assert called(one, machine, PORTS[0]) == [PORTS[0]]
        change_app(demo, {"egress": "none"})
        planned, did = apply(one, plan=True), apply(one)
        assert planned.ok and did.ok, explain(planned) + explain(did)
        assert set(planned.changed) == set(did.changed) == TAKES_AWAY, "no release, no restart"
        assert apply(one, plan=True).changed == []
        assert called(one, public, *PORTS) == called(one, machine, PORTS[0]) == []


def test_a_connection_that_is_not_allowed_any_more_ends(one: Host, demo: Path, public: str) -> None:
    applied(one, demo, "internet")
    script = GOES_ON.format(address=public, port=PORTS[0])
    account = ["--property=User=app-demo", "--property=Group=app-demo"]
    one.execute(["systemd-run", "--quiet", "--unit=goes-on", *account, "python3", "-c", script])
    state = ["systemctl", "show", "--property=ActiveState", "--value", "goes-on"]
    assert one.execute(state, capture=True).stdout.strip() == "active"
    applied(one, demo, "none")
    ended = one.execute(["timeout", "5", "sh", "-c", "while systemctl -q is-active goes-on; do sleep 0.1; done"])
    assert ended.returncode == 0, "the connection goes on"
    one.execute(["systemctl", "reset-failed", "goes-on"])


def test_addresses_of_ipv6_are_no_way_round(one: Host, demo: Path) -> None:
    """With a route to everywhere, which the lab's hosts do not have by themselves."""
    applied(one, demo, "internet")
    address, route = "2600:1f00::2/64", "ip -6 route {} default dev host0"
    one.execute(["sh", "-ec", f"ip -6 address add {address} dev host0 nodad; {route.format('add')}"])
    script = """
import errno, socket
for address in "fd00:ec2::254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1 2001:db8::1 fc00::1 100::1 2001::1".split():
    with socket.socket(socket.AF_INET6) as caller:
        caller.settimeout(0.5)
        print(address, errno.errorcode.get(caller.connect_ex((address, 80))))
with socket.socket(socket.AF_INET6) as caller:
    caller.settimeout(0.5)
    print("public", errno.errorcode.get(caller.connect_ex(("2606:4700::1111", 80))))
"""
    become = ["setpriv", "--reuid=app-demo", "--regid=app-demo", "--clear-groups"]
    try:
        said = one.execute([*become, "python3", "-c", script], capture=True).stdout.splitlines()
    finally:
        one.execute(["sh", "-c", f"{route.format('delete')}; ip -6 address delete {address} dev host0"])
    assert len(said) == 8
    assert all(line.endswith("ECONNREFUSED") for line in said[:-1]), said
    assert said[-1] == "public EAGAIN", "nobody answers there, but nothing forbids it"


def test_nothing_of_an_app_starts_where_the_firewall_was_not_loaded(one: Host, demo: Path) -> None:
    """As after a boot at which it failed: the app waits for the rules, and comes with them."""
    asked = ["salt-call", "--out=json", "release.active", "demo"]
    unit = f"app-demo@{json.loads(one.execute(asked, capture=True, cwd='/srv/saltern').stdout)['local']}"
    one.execute(["nft", "flush", "ruleset"])
    assert one.execute(["timeout", "3", "systemctl", "restart", unit], capture=True).returncode != 0
    assert one.execute(["systemctl", "is-active", "-q", unit]).returncode != 0
    healed = apply(one)
    assert healed.ok, explain(healed)
    assert one.execute(["systemctl", "is-active", "-q", unit]).returncode == 0


# What somebody reaches, by the numbers of a list of addresses and ports.
REACHED = """
import socket
for number, (address, port) in enumerate({places!r}):
    try:
        socket.create_connection((address, port), 3).close()
        print(number)
    except OSError:
        pass
"""


def test_who_fetches_for_a_build_reaches_nothing_private_but_what_is_named(one: Host, public: str, lab: Lab) -> None:
    """Metadata and the fleet's hosts not even then; and what is named is no drift."""
    machine, own = str(lab.network.gateway), str(one.address)
    places = [(public, PORTS[0]), (machine, PORTS[0]), (machine, 22), ("169.254.169.254", 80), (own, 22), (own, 5432)]
    become = ["setpriv", "--reuid=build-demo", "--regid=build-demo", "--clear-groups", "python3", "-c"]

    def reached() -> list[int]:
        done = one.execute([*become, REACHED.format(places=places)], capture=True)
        assert done.returncode == 0, done.stderr
        return [int(line) for line in done.stdout.split()]

    with answering(machine, PORTS[0]):
        assert reached() == [0]
        urls = json.dumps(
            [f"http://me:x@{address}:{port}/simple" for address, port in places if address != machine or port != 22]
        )
        done = one.execute(["salt-call", "firewall.reach", urls], capture=True, cwd="/srv/saltern")
        assert done.returncode == 0, done.stdout + done.stderr
        assert reached() == [0, 1]
        asked = ["salt-call", "state.test", "base.firewall", "--out=json"]
        planned = one.execute(asked, capture=True, cwd="/srv/saltern")
        assert planned.returncode == 0 and '"result": null' not in planned.stdout, planned.stdout[-2000:]
    one.execute(["nft", "flush", "set", "inet", "saltern", "index4"])
