"""What people say at run time (an app is in maintenance, a web host is out, a release is pinned) is no SLS's to read.

An SLS is read before the first state of an apply runs. What it knows of such a thing may be old when a state writes it
back, and then the apply has undone what somebody said. So this walks over everything that an SLS asks of our modules,
and over every file that a function for people writes: no file may be in both.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.contracts import ROOT

WRITES = re.compile(r"^(write|write_text|write_bytes|unlink|replace|rename|symlink_to|touch|point)$")
#: The state that asks when it runs, and holds the lock until it has written.
ALONE = "edge.configured"
PLACES = "saltern.host.places"  # of what the package writes, where people's words are


class Module:
    """What each function of an execution module reaches by itself: functions, and paths by the names of constants."""

    def __init__(self, name: str, sources: list[str]) -> None:
        self.name, self.calls, self.writers = name, defaultdict(set), set()  # type: ignore[var-annotated]
        self.imports: dict[str, str] = {}
        self.texts: set[int] = set()
        trees = [ast.parse(source) for source in sources]
        for tree in trees:
            body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
            for node in tree.body:
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("saltern."):
                    self.imports |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
            paths = {
                target.id
                for node in tree.body
                if isinstance(node, ast.Assign) and _is_path(node.value)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for function in body:
                for node in ast.walk(function):
                    if (
                        isinstance(node, ast.Call)
                        and len(node.args) > 1
                        and getattr(node.func, "attr", "") == "replace"
                    ):
                        self.texts.add(id(node.func))  # of a text; a path has one argument
                    self._note(function.name, node, paths, {one.name for one in body})

    def _note(self, function: str, node: ast.AST, paths: set[str], own: set[str]) -> None:
        if isinstance(node, ast.Name) and node.id in paths and not self.name.startswith("saltern."):
            self.calls[function].add(f"{self.name}:{node.id}")
        elif isinstance(node, ast.Name) and node.id in own:
            self.calls[function].add(f"{self.name}.{node.id}")
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            dunder, what = getattr(node.value, "id", ""), str(node.slice.value)
            if dunder == "__salt__":
                self.calls[function].add(what)
        elif isinstance(node, ast.Attribute):
            if WRITES.match(node.attr) and id(node) not in self.texts:
                self.writers.add(f"{self.name}.{function}")
            if isinstance(node.value, ast.Name) and node.value.id in self.imports:
                whose = self.imports[node.value.id]
                if whose == PLACES or not node.attr.isupper():
                    self.calls[function].add(f"{whose}{':' if whose == PLACES else '.'}{node.attr}")


def _is_path(value: ast.expr) -> bool:
    text = ast.unparse(value)
    if "/usr/" in text:  # a program
        return False
    return text.startswith(("Path('/", "'/")) or bool(re.match(r"[A-Z_]+ / ", text))


def modules(root: Path) -> list[Module]:
    sources = defaultdict(list)
    for path in sorted((root / "_modules").glob("*.py")):
        text = path.read_text()
        named = re.search(r'(?m)^__virtualname__ = "(\w+)"', text)
        sources[named[1] if named else path.stem].append(text)
    for path in sorted((root / "saltern").rglob("*.py")):
        sources[".".join(path.relative_to(root).with_suffix("").parts)].append(path.read_text())
    return [Module(name, texts) for name, texts in sources.items()]


def reached(start: str, calls: dict[str, set[str]]) -> set[str]:
    """Everything that a function reaches, itself too."""
    found, waiting = set(), [start]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += calls.get(one, ())
    return found


def asked(root: Path, pattern: str) -> dict[str, list[str]]:
    """Our functions that files of the state tree ask, and where."""
    found = defaultdict(list)
    for path in sorted((root / "salt").glob(pattern)):
        if path.is_file() and not path.parent.is_symlink() and path.relative_to(root).parts[1] != "orch":
            for name in re.findall(r"salt\[['\"]([\w.]+)['\"]\]", path.read_text()):
                found[name].append(str(path.relative_to(root)))
    return found


def said(root: Path) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Return what every function reaches, and by path the functions for people that write it."""
    every = modules(root)
    calls = {f"{module.name}.{name}": what for module in every for name, what in module.calls.items()}
    writers = {name for module in every for name in module.writers}
    states = " ".join(path.read_text() for path in (root / "_states").glob("*.py"))
    by_states = {one for name in re.findall(r'__salt__\["([\w.]+)"\]', states) for one in reached(name, calls)}
    found = defaultdict(set)
    for name in sorted(calls):
        if name in by_states or name.startswith("saltern.") or name.partition(".")[2].startswith("_"):
            continue  # an apply does it, and two applies do not run at once; and the package has faces
        for writer in reached(name, calls) & writers:
            for path in (one for one in reached(writer, calls) if ":" in one):
                found[path].add(name)
    return calls, found


def undone(root: Path, pattern: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield what is asked, where, the path, and the functions for people that write it meanwhile."""
    calls, written = said(root)
    for function, places in asked(root, pattern).items():
        for path in sorted(reached(function, calls) & written.keys()):
            yield function, ", ".join(sorted(set(places))), path, ", ".join(sorted(written[path]))


@pytest.mark.parametrize("pattern", ["*/*.sls", "*/*.jinja"])
def test_no_sls_asks_what_people_say_at_run_time(pattern: str) -> None:
    assert list(undone(ROOT, pattern)) == []


def test_a_template_that_asks_it_is_written_by_a_state_that_holds_the_lock() -> None:
    found = {place for _, place, _, _ in undone(ROOT, "*/files/*")}
    assert found, "the edge's configuration asks which hosts are out"
    for template in found:
        source = f"source: salt://{template.removeprefix('salt/')}"
        uses = [
            block
            for path in (ROOT / "salt").glob("*/*.sls")
            for block in re.split(r"\n(?=\S)", path.read_text())
            if source in block
        ]
        assert uses and all(f"{ALONE}:" in block for block in uses), f"{template}: write it by {ALONE}"


def test_the_next_member_would_be_found(tmp_path: Path) -> None:
    for folder in ("_modules", "_states", "salt/web/files"):
        (tmp_path / folder).mkdir(parents=True)
    code = 'WHAT = Path("/var/lib/x.json")\n\ndef _file():\n    return WHAT\n\n'
    code += "def now():\n    return _file().read_text()\n\n"
    code += "def say(text):\n    appfiles.write(_file(), text, 0o600)\n"
    (tmp_path / "_modules/thing.py").write_text(code)
    (tmp_path / "salt/web/init.sls").write_text("x:\n  test.nop:\n    - name: {{ salt['thing.now']() }}\n")
    (tmp_path / "salt/web/files/x.conf").write_text("{{ salt['thing.now']() }}")
    assert list(undone(tmp_path, "*/*.sls")) == [("thing.now", "salt/web/init.sls", "thing:WHAT", "thing.say")]
    assert list(undone(tmp_path, "*/files/*")) == [("thing.now", "salt/web/files/x.conf", "thing:WHAT", "thing.say")]
    (tmp_path / "_states/thing.py").write_text('__salt__["thing.say"]("x")')
    assert not list(undone(tmp_path, "*/*.sls")), "states say it, and two applies do not run at once"
