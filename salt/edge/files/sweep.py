"""Ends requests that take too long in all: written by Salt (salt/edge), run by saltern-edge-sweep.service.

HAProxy's timeouts are between two bytes, so a body of one byte now and then, or an answer that is read so, is held for
ever. This asks HAProxy each second for the requests that are older than the limits.

HAProxy gives a web host so many requests of an app at once (maxconn) and keeps the others in a queue. It counts a
request until its visitor has read all; the app is done with it long before. So this opens, some times a second, as many
more places as there are answers that are still read; else slow readers would keep an app from all others.

And it keeps HAProxy at what people said at run time. Who tells HAProxy while it reads its configuration again tells the
old process; the new one may have read the files a moment before they were written. So the files are compared with it.

    sweep.py BODY_SECONDS ANSWER_SECONDS
"""

import contextlib
import csv
import fcntl
import io
import re
import socket
import sys
import time
from pathlib import Path

ADMIN = "/run/haproxy/admin.sock"
CONFIG = "/etc/haproxy/haproxy.cfg"
MAPS = ("/etc/haproxy/through.map", "/etc/haproxy/resting.map")  # who gets through first
LOCK = "/etc/haproxy/resting.map.lock"  # of edge.maintenance, edge.take_out and an apply
TICK, IDLE_TICK = 0.1, 0.25  # seconds
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds(age):
    """Return the seconds of an age in HAProxy's words, such as 1m5s or 2h3m."""
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([dhms])", age))


def older(listing, limit):
    """Return the ids of the requests in a listing of `show sess` that are older than a limit, the oldest first."""
    found = re.findall(r"(?m)^(0x[0-9a-f]+): proto=\S+ src=\S* fe=https? .*?\bage=(\S+)", listing)
    aged = sorted(((seconds(age), name) for name, age in found), reverse=True)
    return [name for age, name in aged if age > limit]


def too_long(detail, body_seconds, answer_seconds):
    """Return whether a request, by the words of `show sess ID`, is over the limit of the phase that it is in."""
    age = re.search(r"\bage=(\S+)", detail)
    if not age:  # it has ended meanwhile
        return False
    receiving = re.search(r"\breq\.st=MSG_(DATA|BODY)\b", detail) and re.search(r"\bstatus=-1\b", detail)
    return seconds(age[1]) > (body_seconds if receiving else answer_seconds)


def ask(command):
    """Return what HAProxy says to a command."""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.settimeout(10)
        admin.connect(ADMIN)
        admin.sendall(command.encode() + b"\n")
        return b"".join(iter(lambda: admin.recv(65536), b"")).decode(errors="replace")


def sweep(body_seconds, answer_seconds):
    """End what is over its limit; return how many."""
    ended = 0
    for name in older(ask("show sess"), min(body_seconds, answer_seconds)):
        if too_long(ask(f"show sess {name}"), body_seconds, answer_seconds):
            ask(f"shutdown session {name}")
            ended += 1
    return ended


def places(config):
    """Return how many places each server of an app has by the configuration, by `backend/server`."""
    found, backend = {}, ""
    for line in config.splitlines():
        if line[:1].isalpha():
            backend = line.split()[-1]
        elif server := re.match(r" +server (\S+) .*\bmaxconn (\d+)", line):
            found[f"{backend}/{server[1]}"] = int(server[2])
    return found


def orders(places, stat, answered):
    """Return what to tell HAProxy so that each server has its places and one for each answer that is still read.

    Args:
        places: by `backend/server`.
        stat: of each server that has places: its name, how many are taken, how many HAProxy gives it.
        answered: what `show table answered` says, by `backend/server`; by `backend/*` of bodies that still come.
    """
    read = dict(re.findall(r"(?m)^0x\S+: key=(\S+) .*\bconn_cur=(\d+)", answered))
    told = []
    for name, _, has in stat:
        every = name.rpartition("/")[0] + "/*"
        wanted = places[name] + int(read.get(name, 0)) + int(read.get(every, 0))
        if has != wanted:
            told.append(f"set maxconn server {name} {wanted}")
    return told


def servers(places, stat):
    """Return name, requests and most requests of each server that has places, by the words of `show stat`.

    One that has no limit is not yet told of: HAProxy is about to read its configuration.
    """
    rows = csv.DictReader(io.StringIO(stat.removeprefix("# ")))
    named = [(f"{row['pxname']}/{row['svname']}", row) for row in rows]
    return [(name, int(row["scur"]), int(row["slim"])) for name, row in named if name in places and row["slim"]]


def open_places():
    """Open a place for each answer that is still read, close those of answers that have been.

    Answers whether a server has half of its places taken, so that it is to be looked at often.
    """
    known = places(Path(CONFIG).read_text())
    stat = servers(known, ask("show stat -1 4 -1"))
    for order in orders(known, stat, ask("show table answered")):
        ask(order)
    return any(2 * taken >= most for _, taken, most in stat)


def resting(config):
    """Return the servers that the configuration says are out, as `backend/server`."""
    found, backend = [], ""
    for line in config.splitlines():
        if line[:1].isalpha():
            backend = line.split()[-1]
        elif server := re.match(r" +server (\S+) .* disabled$", line):
            found.append(f"{backend}/{server[1]}")
    return found


def missed(resting, stat):
    """Return what to tell a HAProxy, by the words of `show stat`, that sends requests to servers that are out."""
    rows = csv.DictReader(io.StringIO(stat.removeprefix("# ")))
    status = {f"{row['pxname']}/{row['svname']}": row["status"] for row in rows}
    serves = [name for name in resting if not status.get(name, "MAINT").startswith(("MAINT", "DRAIN"))]
    return [f"set server {name} state maint" for name in serves]


def follow(path):
    """Have HAProxy's map be as its file; return whether it was not."""
    wanted = Path(path).read_text().splitlines()
    shown = ask(f"show map {path}")
    if shown.startswith("Unknown map") or wanted == re.findall(r"(?m)^0x[0-9a-f]+ (.*)$", shown):
        return False
    version = re.search(r"New version created: (\d+)", ask(f"prepare map {path}"))
    if version:
        for line in wanted:
            ask(f"add map @{version[1]} {path} {line}")
        ask(f"commit map @{version[1]} {path}")
    return bool(version)


def keep_said():
    """Tell HAProxy what it has missed, and return what; not while somebody is telling it, who holds the lock."""
    done = []
    with contextlib.suppress(FileNotFoundError, BlockingIOError), Path(LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        orders = missed(resting(Path(CONFIG).read_text()), ask("show stat -1 4 -1"))
        for order in orders:
            ask(order)
        done = orders + [path for path in MAPS if follow(path)]
    return done


def main(body_seconds, answer_seconds):
    """Sweep for ever; HAProxy that is not there just now is waited for."""
    told, swept = "", 0.0
    while True:
        ended, problem, busy, said = 0, "", False, []
        try:
            busy = open_places()
            if time.monotonic() - swept >= 1:
                swept = time.monotonic()
                ended = sweep(body_seconds, answer_seconds)
                said = keep_said()
        except OSError as error:
            problem = f"HAProxy does not answer: {error}"
        if ended:
            print(f"ended {ended} requests that took too long", flush=True)
        if said:
            print(f"HAProxy had missed: {', '.join(said)}", flush=True)
        if problem and problem != told:
            print(problem, flush=True)
        told = problem
        time.sleep(TICK if busy else IDLE_TICK)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
