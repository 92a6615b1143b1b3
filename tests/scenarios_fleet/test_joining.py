"""Who may speak to whom: a stale key, a foreign master, a master that is away, and a daemon that restarts itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from conftest import answer, apply, path_on, pings, run, wait_for

from joining import fingerprint
from lab.host import Host
from lab.lab import Lab


def journal(host: Host, since: str) -> str:
    return run(host, "journalctl", "-u", "salt-minion", "--since", since, "--output=cat", "--no-pager")


def clock(host: Host) -> str:
    return run(host, "date", "+%F %T").strip()


@pytest.fixture
def whole(master: Host, minion: Host) -> Iterator[None]:
    """Whatever a test did to the minion's keys, it answers again in the end."""
    pin = path_on(minion, "/etc/salt/minion.d/master_finger.conf")
    keys = {path: path.read_bytes() for path in path_on(minion, "/etc/salt/pki/minion").glob("minion*.p*")}
    pinned = pin.read_text()
    yield
    for path in path_on(minion, "/etc/salt/pki/minion").glob("minion*.p*"):
        path.unlink()
    for path, data in keys.items():
        path.write_bytes(data)
        path.chmod(0o400)
    pin.write_text(pinned)
    run(minion, "systemctl", "restart", "salt-minion")
    wait_for("the minion answers", lambda: pings(master, minion))


def test_a_minion_with_a_stale_key_is_told_so_and_refused(master: Host, minion: Host, whole: None) -> None:
    since = clock(minion)
    run(minion, "systemctl", "stop", "salt-minion")
    run(minion, "sh", "-c", "rm /etc/salt/pki/minion/minion.pem /etc/salt/pki/minion/minion.pub")
    run(minion, "systemctl", "start", "--no-block", "salt-minion")
    wait_for("the minion is told", lambda: "The Salt Master has cached the public key" in journal(minion, since)
             or "rejected" in journal(minion, since))  # fmt: skip
    assert not pings(master, minion)
    keys = answer(master, "salt-key", "-L")
    assert keys["minions_denied"] == [minion.id] and minion.id in keys["minions"], "the old key stays accepted"
    run(master, "rm", f"/etc/salt/pki/master/minions_denied/{minion.id}")


def test_a_master_with_another_key_is_refused(minion: Host, master: Host, whole: None) -> None:
    since = clock(minion)
    path_on(minion, "/etc/salt/pki/minion/minion_master.pub").unlink()
    place = path_on(minion, "/etc/salt/minion.d/master_finger.conf")
    place.write_text("master_finger: '" + ":".join(["ab"] * 32) + "'\n")
    run(minion, "systemctl", "restart", "--no-block", "salt-minion")
    wait_for("it says why", lambda: "fingerprint" in journal(minion, since))
    assert not pings(master, minion)


def test_the_pin_is_the_masters_key(lab: Lab, master: Host, minion: Host) -> None:
    own = fingerprint(run(master, "cat", "/etc/salt/pki/master/master.pub"))
    assert own in path_on(minion, "/etc/salt/minion.d/master_finger.conf").read_text()
    assert own == answer(minion, "salt-call", "--local", "key.finger_master")["local"], "as an operator compares it"


def test_a_master_that_is_down_changes_nothing_on_the_others(master: Host, minion: Host) -> None:
    listing = ["systemctl", "list-units", "--state=running", "--plain", "--no-legend", "--type=service"]
    names = "\n".join(line.split()[0] for line in run(minion, *listing).splitlines())
    run(master, "systemctl", "stop", "salt-master")
    try:
        done = minion.execute(["timeout", "10", "salt-call", "--local", "test.ping"], capture=True)
        assert done.returncode == 0
        now = "\n".join(line.split()[0] for line in run(minion, *listing).splitlines())
        assert now == names
        assert run(minion, "systemctl", "--failed", "--plain", "--no-legend") == ""
    finally:
        run(master, "systemctl", "start", "salt-master")
    wait_for("the minion is back", lambda: pings(master, minion))


def process_of(minion: Host) -> str:
    return run(minion, "systemctl", "show", "-p", "MainPID", "--value", "salt-minion").strip()


@pytest.mark.slow("fleet")
def test_a_minion_never_cuts_off_the_branch_it_sits_on(lab: Lab, master: Host, minion: Host) -> None:
    """Its new configuration comes by a job of the old process; the job ends, with an answer, and then it restarts."""
    settings, before = lab.site / "settings.yaml", process_of(minion)
    old = settings.read_text() if settings.exists() else None
    others = yaml.safe_load(old) if old else {}  # theirs must stay: a primary with more connections stops its replica
    settings.write_text(yaml.safe_dump(others | {"minion": {"log_level": "warning"}}))
    try:
        states = apply(master, minion)
        assert states["salt-minion.service"]["changes"], "it was to be restarted"
        wait_for("it restarts", lambda: process_of(minion) not in (before, "0"))
        wait_for("it answers", lambda: pings(master, minion))
        assert not [name for name, state in apply(master, minion).items() if state["changes"]]
    finally:
        settings.unlink() if old is None else settings.write_text(old)
    # An apply that was killed has written the file and not restarted the daemon: the next one finds that.
    config, before = path_on(minion, "/etc/salt/minion"), process_of(minion)
    config.write_text(config.read_text().replace("log_level: warning", "log_level: info"))
    states = apply(master, minion)
    assert not states["/etc/salt/minion"]["changes"] and states["salt-minion.service"]["changes"]
    wait_for("it restarts", lambda: process_of(minion) not in (before, "0"))
    wait_for("it answers", lambda: pings(master, minion))
