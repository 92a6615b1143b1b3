"""What we set is asked for, not believed: a daemon may accept a setting where it does nothing with it."""

from __future__ import annotations

import json
import ssl

from lab.host import Host
from lab.lab import Lab
from lab.served import Connection, ca_file, pages
from saltern.site.load import load_site

# The sockets themselves are asked. The lab's machine may look into them, a login on the host may not.
TIMEOUTS = """
import ctypes, json, os, socket, subprocess
PIDFD_GETFD, TCP_USER_TIMEOUT = 438, 18
libc = ctypes.CDLL(None)
found = []
for pid in map(int, subprocess.run(["pgrep", "-x", "haproxy"], capture_output=True, text=True).stdout.split()):
    process = os.pidfd_open(pid)
    for number in map(int, os.listdir(f"/proc/{pid}/fd")):
        try:
            with socket.socket(fileno=libc.syscall(PIDFD_GETFD, process, number, 0)) as one:
                found.append([one.getpeername()[1], one.getsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT)])
        except (OSError, IndexError, ValueError):
            continue  # no socket, or none that is connected over TCP
print(json.dumps(found))
"""


def test_a_web_host_that_falls_silent_is_given_up_after_seconds(lab: Lab, one: Host) -> None:
    """A POST in flight to it would else wait for an answer for as long as the longest request may take."""
    visitor = Connection(pages(lab.site)[0], ssl.create_default_context(cafile=str(ca_file(lab.site))))
    visitor.request("GET", "/")
    visitor.getresponse().read()  # it stays connected, and HAProxy for it
    port = load_site(lab.site).settings.web.port
    sockets = json.loads(one.execute(["python3", "-c", TIMEOUTS], capture=True).stdout)
    found = [milliseconds for peer, milliseconds in sockets if peer == port]
    assert found and set(found) == {4000}, sockets
