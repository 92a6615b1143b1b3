"""Ends scripts that make a Redis of this host deaf to everybody else; run by redis-unblock.service.

Redis has one thread, and no limit for a script (EVAL). After five seconds of one it says BUSY, and then takes the word
to kill it; a script that has written something can only be ended with the server itself. That loses only what the
script did: what a script writes is logged when it ends.

And it makes Redis forget scripts when they hold much memory: Redis evicts none, so a dozen large ones keep all other
apps from writing for ever, in the cache too. Clients send a script again that is not known any more.

The connection is kept: a server that has no place for a new client still listens to an old one.
"""

import os
import re
import signal
import socket
import sys
import time

EVERY_SECONDS = 2
ANSWER_SECONDS = 1
# From when Redis says BUSY on: so often it is asked to end the script before the server is ended.
TRIES = 3
# Scripts of honest clients are some kilobytes; the interpreter itself is below one megabyte.
MOST_SCRIPTS = 16 << 20  # bytes of scripts, and of what they left in the interpreter
SCRIPTS = re.compile(r"(?m)^used_memory_(?:scripts|vm_total):(\d+)")
FULL = "-ERR max number of clients reached"


class Server:
    """A server as its socket shows it, over a connection that stays."""

    def __init__(self, path, password):
        self.path, self.password = path, password
        self.connection: socket.socket = None  # type: ignore[assignment]  # look() opens it
        self.rest, self.owed, self.signed_in = b"", None, False
        self.stuck = 0

    def say(self, *words):
        """Say one command, and return what comes back: a line, or a text.

        What was not answered in time is not said again: the answer comes when the server hears again.
        """
        if self.owed and self.owed != words:
            self.answer()
        if not self.owed:
            packed = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            self.owed = words
            self.connection.sendall(f"*{len(words)}\r\n{packed}".encode())
        return self.answer()

    def answer(self):
        while (whole := self.whole()) is None:
            more = self.connection.recv(4096)
            if not more:
                raise ConnectionError("the server has closed the connection")
            self.rest += more
        self.owed = None
        return whole.decode(errors="replace").strip()

    def whole(self):
        """Take an answer off what has come; None when there is more to come."""
        line, end, rest = self.rest.partition(b"\r\n")
        if end and line.startswith(b"$"):
            size = int(line[1:])
            line, end, rest = rest[:size], rest[size : size + 2], rest[size + 2 :]
        if end != b"\r\n":
            return None
        self.rest = rest
        return line

    def leave(self):
        if self.connection:
            self.connection.close()
        self.connection = None  # type: ignore[assignment]
        self.rest, self.owed, self.signed_in = b"", None, False

    def look(self):
        """Return what the server says: its answer to PING, or to the word that ends a script or forgets all of them."""
        if self.connection is None:
            self.connection = socket.socket(socket.AF_UNIX)
            self.connection.settimeout(ANSWER_SECONDS)
            self.connection.connect(self.path)
        if not self.signed_in:
            said = self.say("AUTH", "saltern-health", self.password)
            if not said.startswith("+"):
                self.leave()
                return said
            self.signed_in = True
        said = self.say("PING")
        if said.startswith("+"):
            held = sum(map(int, SCRIPTS.findall(self.say("INFO", "memory"))))
            return f"forgotten: {held} bytes, {self.say('SCRIPT', 'FLUSH')}" if held > MOST_SCRIPTS else said
        return f"killed: {self.say('SCRIPT', 'KILL')}" if said.startswith("-BUSY") else said

    def end(self):
        credentials = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        os.kill(int.from_bytes(credentials[:4], sys.byteorder), signal.SIGKILL)
        self.leave()
        self.stuck = 0

    def watch(self):
        """Look once, and do what is to be done."""
        try:
            said = self.look()
        except TimeoutError:  # a script is not yet five seconds old; the answer comes later
            return
        except OSError:  # it starts
            self.leave()
            return
        if said.startswith(FULL):  # which is no sign of health
            print(f"{self.path}: all its places are taken", flush=True)
        elif not said.startswith("killed: "):
            self.stuck = 0
            if said.startswith("forgotten: "):
                print(f"{self.path}: scripts held too much memory; {said}", flush=True)
        else:
            self.stuck += 1
            print(f"{self.path}: a script took too long; {said}", flush=True)
            if "UNKILLABLE" in said and self.stuck >= TRIES:
                print(f"{self.path}: the script has written, so the server ends and starts again", flush=True)
                self.end()


def main(paths):
    password = sys.stdin.readline().strip()
    servers = [Server(path, password) for path in paths]
    while True:
        for server in servers:
            server.watch()
        time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
