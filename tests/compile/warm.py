"""Salt imported once: `python warm.py` runs each salt-call that it is asked for in a fork of itself.

A line of JSON in, the exit code out: {"arguments": [...], "cwd": PATH, "env": {...}, "out": PATH, "err": PATH}. Half of
a call's time is the import of Salt, and the compile tests make nearly a hundred calls.
"""

import json
import os
import sys
from typing import Any, NoReturn

import pydantic  # noqa: F401  the pillar's models take their time too
import salt.cli.call
import salt.cli.caller
import salt.scripts
import without_pillar


def call(arguments: list[str], cwd: str, env: dict[str, str], out: str, err: str, by_ssh: bool = False) -> NoReturn:
    """Be salt-call, with these arguments, in this directory and environment, and write to these files."""
    if by_ssh:
        without_pillar.begin()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for stream, path in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), stream)
    sys.argv = ["salt-call", *arguments]
    salt.scripts.salt_call()
    sys.exit(0)


def main() -> None:
    """Answer one line after the other."""
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        child = os.fork()
        if not child:
            call(**asked)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
