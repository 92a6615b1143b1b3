"""Ends scripts that make a Redis of this host deaf to everybody else; run by redis-unblock.service.

Redis has one thread, and no limit for a script (EVAL). After five seconds of one it says BUSY, and then takes the word
to kill it; a script that has written something can only be ended with the server itself. That loses only what the
script did: what a script writes is logged when it ends.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path

EVERY_SECONDS = 2
ANSWER_SECONDS = 1
# From when Redis says BUSY on: so often it is asked to end the script before the server is ended.
TRIES = 3


def say(stream, *words):
    """Says one command, and answers the first line of what comes back."""
    packed = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    stream.write(f"*{len(words)}\r\n{packed}".encode())
    stream.flush()
    return stream.readline().decode(errors="replace").strip()


def look(path, password):
    """Answers what a server says: its answer to PING, or to the word that ends a script when it is busy."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(path)
        with connection.makefile("rwb") as stream:
            signed_in = say(stream, "AUTH", "saltern-health", password)
            if not signed_in.startswith("+"):
                return signed_in
            answer = say(stream, "PING")
            return f"killed: {say(stream, 'SCRIPT', 'KILL')}" if answer.startswith("-BUSY") else answer


def server_of(path):
    """Answers the process that listens at a socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(path)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[:4], sys.byteorder)


def main(paths):
    password = Path(os.environ["CREDENTIALS_DIRECTORY"], "password").read_text().strip()
    stuck = dict.fromkeys(paths, 0)
    while True:
        for path in paths:
            try:
                said = look(path, password)
            except OSError:  # it starts, or a script is not yet five seconds old
                continue
            if not said.startswith("killed: "):
                stuck[path] = 0
                continue
            stuck[path] += 1
            print(f"{path}: a script took too long; {said}", flush=True)
            if "UNKILLABLE" in said and stuck[path] >= TRIES:
                print(f"{path}: the script has written, so the server ends and starts again", flush=True)
                os.kill(server_of(path), signal.SIGKILL)
                stuck[path] = 0
        time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
