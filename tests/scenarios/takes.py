"""Runs as an app's process, in its sandbox: tries to take of the host what is not its own. Prints it, as JSON."""

import json
import os
import socket
import sys

PORTS = json.loads(os.environ["TAKES"])["ports"]


def takes(family, kind, port):
    with socket.socket(family, kind) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            one.bind(("::" if family == socket.AF_INET6 else "127.0.0.1", port))
        except PermissionError:
            return False
        except OSError as error:
            return f"{error}"  # in use, which the kernel looks at afterwards: it would have got it
    return True


def room(folder):
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize // 1024**2


families = {"v4": socket.AF_INET, "v6": socket.AF_INET6}
kinds = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
taken = {
    f"{family} {kind} {port}": got
    for family, number in families.items()
    for kind, kind_number in kinds.items()
    for port in PORTS
    if (got := takes(number, kind_number, port))
}
free = [takes(number, kind, 0) for number in (socket.AF_INET,) for kind in kinds.values()]
rooms = {folder: room(folder) for folder in ("/tmp", "/var/tmp", "/dev/shm")}
heard = [path for path in ("/run/systemd/notify", "/run/systemd/journal/socket") if os.access(path, os.F_OK)]
lines = 0
if "log" in json.loads(os.environ["TAKES"]):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.connect("/dev/log")
        for _ in range(json.loads(os.environ["TAKES"])["log"]):
            log.send(f"<14>{json.loads(os.environ['TAKES'])['tag']}: {'x' * 100}".encode())
            lines += 1
print("TOOK " + json.dumps({"ports": taken, "free": free, "rooms": rooms, "heard": heard, "lines": lines}))
sys.stdout.flush()
