"""Ends requests that take too long in all: written by Salt (salt/edge), run by saltern-edge-sweep.service.

HAProxy's timeouts are between two bytes, so a body of one byte now and then, or an answer that is read so, is held for
ever. This asks HAProxy each second for the requests that are older than the limits.

    sweep.py BODY_SECONDS ANSWER_SECONDS
"""

import re
import socket
import sys
import time

ADMIN = "/run/haproxy/admin.sock"
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def seconds(age):
    """Answers the seconds of an age in HAProxy's words, such as 1m5s or 2h3m."""
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([dhms])", age))


def older(listing, limit):
    """Answers the ids of the requests in a listing of `show sess` that are older than a limit, the oldest first."""
    found = re.findall(r"(?m)^(0x[0-9a-f]+): proto=\S+ src=\S* fe=https? .*?\bage=(\S+)", listing)
    aged = sorted(((seconds(age), name) for name, age in found), reverse=True)
    return [name for age, name in aged if age > limit]


def too_long(detail, body_seconds, answer_seconds):
    """Answers whether a request, by the words of `show sess ID`, is over the limit of the phase that it is in."""
    age = re.search(r"\bage=(\S+)", detail)
    if not age:  # it has ended meanwhile
        return False
    receiving = re.search(r"\breq\.st=MSG_DATA\b", detail) and re.search(r"\bstatus=-1\b", detail)
    return seconds(age[1]) > (body_seconds if receiving else answer_seconds)


def ask(command):
    """Answers what HAProxy says to a command."""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.settimeout(10)
        admin.connect(ADMIN)
        admin.sendall(command.encode() + b"\n")
        return b"".join(iter(lambda: admin.recv(65536), b"")).decode(errors="replace")


def sweep(body_seconds, answer_seconds):
    """Ends what is over its limit; answers how many."""
    ended = 0
    for name in older(ask("show sess"), min(body_seconds, answer_seconds)):
        if too_long(ask(f"show sess {name}"), body_seconds, answer_seconds):
            ask(f"shutdown session {name}")
            ended += 1
    return ended


def main(body_seconds, answer_seconds):
    """Sweeps for ever; HAProxy that is not there just now is waited for."""
    told = ""
    while True:
        try:
            ended, problem = sweep(body_seconds, answer_seconds), ""
        except OSError as error:
            ended, problem = 0, f"HAProxy does not answer: {error}"
        if ended:
            print(f"ended {ended} requests that took too long", flush=True)
        if problem and problem != told:
            print(problem, flush=True)
        told = problem
        time.sleep(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
