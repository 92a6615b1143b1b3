"""Runs on a host as root: looks, as another user would, at all that is not of a Debian package.

Arguments, as JSON: the users, each with the process whose view of the disk is taken, or none. Prints, for each, what it
may read (and so lock), what it may write to, and what it may connect to.
"""

# ruff: noqa: PTH118, PTH123, PTH207 - a walk over a whole disk

from __future__ import annotations

import ctypes
import glob
import json
import os
import pwd
import socket
import stat
import sys

# Not files of ours, or thousands of one kind, whose top is looked at in their stead.
DEVICES = ("/dev/shm", "/dev/mqueue", "/dev/kmsg", "/dev/mem", "/dev/fuse", "/dev/net/tun", "/dev/kvm")
Port = tuple[int, str, int]
LEFT_OUT = ("/proc", "/sys", "/dev", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/boot")


def packaged() -> set[str]:
    """Paths that packages of Debian brought."""
    found: set[str] = set()
    for path in glob.glob("/var/lib/dpkg/info/*.list"):
        with open(path, encoding="utf-8", errors="replace") as file:
            found |= set(file.read().split("\n"))
    return found


def all_paths() -> list[tuple[str, int]]:
    """Each file and folder with its mode, as root sees them: a name may be known that cannot be listed."""
    found = []
    for folder, folders, files in os.walk("/", followlinks=False):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in LEFT_OUT]
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            try:
                found.append((path, os.lstat(path).st_mode))
            except OSError:
                continue
    return found


def look(paths: list[tuple[str, int]], known: set[str], names: list[str], ports: list[Port]) -> dict[str, list[str]]:
    """What the user that this process is may do."""
    found: dict[str, list[str]] = {"reads": [], "writes": [], "connects": []}
    for path, mode in paths:
        if stat.S_ISLNK(mode):
            continue
        if stat.S_ISSOCK(mode):
            if connected(socket.AF_UNIX, path):
                found["connects"].append(path)
            continue
        if os.access(path, os.W_OK):
            found["writes"].append(path)
        if stat.S_ISREG(mode) and path not in known and os.access(path, os.R_OK):
            found["reads"].append(path)
    found["connects"] += [f"@{name}" for name in names if connected(socket.AF_UNIX, f"\0{name}")]
    found["connects"] += [f"{where[1]}:{where[2]}" for where in ports if connected(where[0], where[1:])]
    return found | {"writes": found["writes"] + [path for path in DEVICES if os.access(path, os.W_OK)]}


def connected(family: int, where: object) -> bool:
    """Whether somebody takes the connection; a datagram socket counts, too."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)[: 3 if family == socket.AF_UNIX else 1]:
        with socket.socket(family, kind) as client:
            client.settimeout(1)
            try:
                client.connect(where)  # type: ignore[arg-type]
            except OSError:
                continue
            return True
    return False


def abstract() -> list[str]:
    """Names of listening sockets that lie on no disk."""
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
        fields = [line.split(maxsplit=7) for line in file.read().splitlines()[1:]]
    return sorted({one[7][1:] for one in fields if len(one) == 8 and one[7].startswith("@") and one[3] == "00010000"})


def listening() -> list[Port]:
    """Where something of this host listens for TCP; what listens on all addresses is asked on loopback."""
    found = set()
    for path, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        try:
            with open(path) as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *_ = line.split()
            if state != "0A":
                continue
            number, port = local.split(":")
            words = [bytes.fromhex(number[i : i + 8])[::-1] for i in range(0, len(number), 8)]
            address = socket.inet_ntop(family, b"".join(words))
            found.add((family, {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address), int(port, 16)))
    return sorted(found, key=str)


def main() -> None:
    known, names, ports = packaged(), abstract(), listening()  # a sandbox hides /proc/net
    answers = {}
    for user, pid in json.loads(sys.argv[1]).items():
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            if pid:
                with open(f"/proc/{pid}/ns/mnt") as view:
                    if ctypes.CDLL(None, use_errno=True).setns(view.fileno(), 0):  # os.setns came with Python 3.12
                        raise OSError(ctypes.get_errno(), "setns")
                os.chdir("/")
            paths = all_paths()
            entry = pwd.getpwnam(user.partition(" ")[0])
            os.setgroups([])
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            with os.fdopen(writer, "w") as out:
                json.dump(look(paths, known, names, ports), out)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as answer:
            answers[user] = json.loads(answer.read())
        os.waitpid(child, 0)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
