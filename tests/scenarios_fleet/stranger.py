"""What somebody without any key can send to a master's port. Prints JSON: name -> answer, or what was heard.

Run with Salt's Python on a host that reaches the port; the messages come as JSON on standard input, each as it is to go
over the wire. Bytes stand as {"bytes": COUNT}; "$N" in a text is the number of the copy, of which "copies" are sent.
"""

import json
import os
import sys

import salt.config
import salt.payload
import zmq

SECONDS = 8
master = salt.config.minion_config("/etc/salt/minion")["master"]
context = zmq.Context()


def revived(value, number):
    if isinstance(value, dict):
        if set(value) == {"bytes"}:
            return os.urandom(value["bytes"])
        return {key: revived(inner, number) for key, inner in value.items()}
    return value.replace("$N", str(number)) if isinstance(value, str) else value


def asked(message):
    with context.socket(zmq.REQ) as wire:
        wire.setsockopt(zmq.LINGER, 0)
        wire.setsockopt(zmq.RCVTIMEO, SECONDS * 1000)
        wire.connect(f"tcp://{master}:4506")
        wire.send(salt.payload.dumps(message))
        try:
            return salt.payload.loads(wire.recv())
        except zmq.Again:
            return "no answer"


def heard(sent):
    """What comes from the port of the orders within some seconds, after this was sent to it."""
    with context.socket(zmq.XSUB) as wire:
        wire.setsockopt(zmq.LINGER, 0)
        wire.connect(f"tcp://{master}:4505")
        for message in (b"\x01", *sent):
            wire.send(message)
        print("listening", flush=True)
        came = []
        while wire.poll(SECONDS * 1000):
            came.append(wire.recv())
        return came


if sys.argv[1:] == ["listen"]:
    junk = [salt.payload.dumps({"enc": "aes", "load": b"x" * 100}), b"\x01" + b"x" * 100_000, b"\x02" * 1000, b""]
    print(json.dumps([message.hex() for message in heard(junk)]))
else:
    answers = {}
    for name, message in json.load(sys.stdin).items():
        for number in range(message.pop("copies", 1)):
            answers[name] = asked(revived(message, number))
    print(json.dumps(answers, default=repr))
