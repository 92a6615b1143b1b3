"""How a host becomes a master or a minion before Salt's first word: what bin/bootstrap does, and the lab as well."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import time
from pathlib import Path

from debian import REPOSITORY, Refused, run

MASTER_KEYS = Path("/etc/salt/pki/master")
MINION_KEYS = Path("/etc/salt/pki/minion")
PINNED = MINION_KEYS / "minion_master.pub"
UNIT = Path("/etc/systemd/system/salt-minion.service")
# A minion loads its private key for every connection, 50 times in an apply, and has it checked each time: 0.04 s at
# 2048 bits, 0.25 s at 4096 (measured). The master loads its own once.
KEY_BITS = {"master": 4096, "minion": 2048}
KEY_SECONDS = 30
FINGERPRINT = re.compile(r"([0-9a-f]{2}:){31}[0-9a-f]{2}")


def fingerprint(public_key: str) -> str:
    """Return the SHA-256 of a public key, as `salt-key -F` shows it.

    Args:
        public_key: the text of a .pub file (PEM).

    Example:
        >>> fingerprint("-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----\\n")[:8]
        '46:77:94'
    """
    # Salt takes the lines between the first and the last as they are.
    lines = [line + "\n" for line in public_key.splitlines() if line.strip()]
    hexed = hashlib.sha256("".join(lines[1:-1]).encode()).hexdigest()
    return ":".join(hexed[at : at + 2] for at in range(0, len(hexed), 2))


def make_keys(folder: Path, name: str) -> None:
    """Make a key pair for Salt, `<name>.pem` and `<name>.pub`; one that is there stays.

    Args:
        folder: where to; made with mode 0700 when it is missing.
        name: `master` or `minion`.
    """
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    if private.exists() and public.exists():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = folder / f".{name}.part"
    for leftover in (part, part.with_name(part.name + ".pub")):
        leftover.unlink(missing_ok=True)
    # Openssh is on every server; Salt reads the same PEM.
    run(
        ["ssh-keygen", "-q", "-t", "rsa", "-b", str(KEY_BITS[name]), "-m", "PEM", "-N", "", "-C", name, "-f", str(part)]
    )
    text = run(["ssh-keygen", "-e", "-m", "PKCS8", "-f", str(part)]).stdout
    public.write_text(text)
    public.chmod(0o644)
    part.with_name(part.name + ".pub").unlink()
    part.chmod(0o400)
    part.rename(private)


def minion_files(host_id: str, master: str, master_fingerprint: str) -> dict[str, str]:
    """Return what a minion has before its first apply; the same as role minion writes, so that apply changes nothing.

    Args:
        host_id: the minion's id.
        master: the master's address.
        master_fingerprint: of the master's public key; any other master is refused.

    Returns:
        Path on the host to text, each with mode 0644.
    """
    config = (REPOSITORY / "salt/minion/files/minion.conf").read_text()
    return {
        "/etc/salt/minion.d/id.conf": f"id: {host_id}\n",
        "/etc/salt/minion.d/master_finger.conf": f"master_finger: '{master_fingerprint}'\n",
        "/etc/salt/minion": config.replace("{{ master }}", master).replace("{{ log_level }}", "info"),
        str(UNIT): (REPOSITORY / "salt/minion/files/salt-minion.service").read_text(),
    }


def write_files(files: dict[str, str]) -> bool:
    """Write files that differ, each in one step; return whether any did."""
    changed = False
    for name, text in files.items():
        place = Path(name)
        if place.exists() and place.read_text() == text:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_name(place.name + ".new")
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.rename(place)
        changed = True
    return changed


def become_master() -> str:
    """Make the master's user and its key; return the key's fingerprint."""
    if run(["getent", "passwd"]).stdout.find("\nsalt:") < 0:
        options = ["--system", "--user-group", "--home-dir", "/var/lib/salt", "--no-create-home"]
        run(["useradd", *options, "--shell", "/usr/sbin/nologin", "salt"])
    make_keys(MASTER_KEYS, "master")
    for path in (MASTER_KEYS, *MASTER_KEYS.rglob("*")):
        shutil.chown(path, "salt", "salt")
    return fingerprint((MASTER_KEYS / "master.pub").read_text())


def become_minion(host_id: str, master: str, master_fingerprint: str) -> str:
    """Make this host a minion of one master and start it; return the fingerprint of its own key."""
    make_keys(MINION_KEYS, "minion")
    # Whoever types another fingerprint means another master.
    if PINNED.exists() and fingerprint(PINNED.read_text()) != master_fingerprint:
        PINNED.unlink()
    changed = write_files(minion_files(host_id, master, master_fingerprint))
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "enable", "--quiet", UNIT.name])
    run(["systemctl", "restart" if changed else "start", "--no-block", UNIT.name])
    return fingerprint((MINION_KEYS / "minion.pub").read_text())


def accept(host_id: str, wanted: str) -> str:
    """Accept a minion's key on the master, if it has the fingerprint that the minion's own host has shown.

    `salt-key -f` of Salt 3008.3 shows another sum than the minion does (saltstack/salt#69970), so it is computed here.

    Args:
        host_id: the minion's id.
        wanted: the fingerprint.

    Returns:
        What was done, for the operator.

    Raises:
        Refused: no such key, or another one.
    """
    pending, accepted = MASTER_KEYS / "minions_pre" / host_id, MASTER_KEYS / "minions" / host_id
    deadline = time.monotonic() + KEY_SECONDS  # a minion that was just started is on its way
    while not pending.exists() and not accepted.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    key = pending if pending.exists() else accepted
    if not key.exists():
        hint = f"bin/bootstrap minion  on it, with {host_id} and role minion in site/fleet.yaml here; then  salt-key -L"
        raise Refused(f"no minion {host_id} has sent its key, or none that is kept: {hint}")
    found = fingerprint(key.read_text())
    if found != wanted:
        hint = f"it is not accepted; if nobody can say whose key that is:  salt-key -d {host_id}"
        raise Refused(f"the key that calls itself {host_id} has the fingerprint\n  {found}\nand not that: {hint}")
    if key == accepted:
        return f"{host_id} is accepted already"
    run(["salt-key", "--yes", "--accept", host_id])
    deadline = time.monotonic() + KEY_SECONDS
    while time.monotonic() < deadline:  # it asks again every few seconds whether it is accepted
        if (
            subprocess.run(["salt", host_id, "test.ping", "--timeout=3"], capture_output=True, check=False).returncode
            == 0
        ):
            break
    else:
        return f"{host_id} is accepted, and does not answer yet; what it says:  journalctl -u salt-minion  on it"
    return f"{host_id} is accepted and answers. Next:  salt {host_id} state.apply test=True"
