"""House rules for states, checked on what Salt compiled, not on text. docs/states.md gives each rule's reason."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator

from salt.state import STATE_INTERNAL_KEYWORDS

# Each lies in a plan, is slow, or loses work (facts in docs/states.md).
BANNED = {
    "file.replace", "file.line", "file.blockreplace", "file.comment", "file.uncomment", "file.keyvalue", "file.copy",
    "file.append", "file.prepend", "archive.extracted", "module.run", "module.wait", "pkg.latest", "cmd.wait",
    "cmd.script", "pip.installed", "virtualenv.managed", "service.running", "service.enabled", "git.latest",
}  # fmt: skip
GUARDS = {"creates", "unless", "onlyif", "onchanges"}
TAKEN_FROM_KWARGS = {"file.directory": {"mode"}, "pkg.installed": {"install_recommends"}}
EXTRA = {"order", "name", "state", "fun", "__id__", "__sls__", "__env__", "__pub_user"}
OWNED = {name: {"user", "group", "mode"} for name in ("file.managed", "file.directory", "edge.configured")}
SECRET_PLACE = re.compile(r"(\.key|\.pem|(?<!common-)password|secret|/env$)")


def problems(chunk: dict, function: Callable | None) -> Iterator[str]:
    """Yield what is wrong with one compiled state.

    Args:
        chunk: an item of Salt's low state.
        function: the state function that it calls; None when Salt has no such function on that release.
    """
    name = f"{chunk['state']}.{chunk['fun']}"
    place = f"{chunk['__sls__']}: {chunk['__id__']} ({name})"
    if name in BANNED:
        yield f"{place}: {name} is not used here"
        return
    if function is None:
        yield f"{place}: Salt has no state function {name}"
        return
    unknown = set(chunk) - STATE_INTERNAL_KEYWORDS - EXTRA - set(inspect.signature(function).parameters)
    unknown -= TAKEN_FROM_KWARGS.get(name, set()) | {key for key in chunk if key.startswith("__")}
    if unknown:
        yield f"{place}: {name} has no argument {', '.join(sorted(unknown))} (Salt would ignore it in silence)"
    missing = OWNED.get(name, set()) - set(chunk)
    if name == "file.directory" and "mode" in missing and "dir_mode" in chunk:
        missing.discard("mode")
    if missing:
        yield f"{place}: say {', '.join(sorted(missing))}"
    if "mode" in chunk and not isinstance(chunk["mode"], str):
        yield f"{place}: quote the mode, YAML reads {chunk['mode']!r}"
    if chunk["state"] == "cmd" and not GUARDS & set(chunk):
        yield f"{place}: a command needs one of {', '.join(sorted(GUARDS))}"
    if "onchanges" in chunk and chunk["fun"] not in ("wait", "absent"):
        yield f"{place}: onchanges loses work when an apply fails in between; ask the host for the outcome"
    if name == "file.managed" and SECRET_PLACE.search(chunk["name"]):
        if chunk.get("show_changes") is not False:
            yield f"{place}: holds a secret, so show_changes: False"
        if chunk.get("mode") not in ("0600", "0640", "0400", "0440"):
            yield f"{place}: holds a secret, so mode 0600 or 0640"
