"""docs/extending.md, done: a role more, in the files that the page names and in no other.

The role `greeter` answers a word on a port. It is added to a copy of the repository, and taken away with it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

# What a person writes anew.
NEW = {
    "saltern/site/roles/greeter.py": '''\
from pydantic import Field

from ..kinds import Port
from ..model import Model
from ..role import Offer, Role


class Greeter(Model):
    """A word."""

    port: Port = Field(description="Its port.")


ROLE = Role(
    settings=Greeter,
    place=85,
    stops=True,
    offers=(Offer("words", "port", ("web",), "a word", only_for_apps=False),),
)
''',
    "saltern/site/wired/greeter.py": """\
def told(site, host, secrets):
    return {"word": "hello"}
""",
    "pillar/greeter.sls": "#!yaml\ngreeter:\n  port: 7007\n",
    "salt/greeter/init.sls": """\
/etc/greeter.conf:
  file.managed:
    - contents: {{ pillar['greeter']['port'] | json }}
    - user: root
    - group: root
    - mode: '0644'
""",
    "salt/greeter/absent.sls": """\
/etc/greeter.conf:
  file.absent
""",
    "tests/hosts/test_greeter.py": 'import pytest\n\npytestmark = pytest.mark.role("greeter")\n',
    "docs/roles/greeter.md": "# Role greeter\n\nAnswers a word.\n",
}
# What a person adds to: (file, what stands there, what is written before it).
ADDED = [
    ("docs/README.md", "[minion](roles/minion.md)", "[greeter](roles/greeter.md), "),
    ("lab/fleets/single/fleet.yaml", "edge]", "greeter, "),
]
CHECKS = [
    "tests/unit/test_map.py::test_every_role_is_in_all_four_places",
    "tests/unit/test_map.py::test_a_role_that_can_be_stopped_says_how",
    "tests/unit/test_extending.py::test_each_role_has_the_files_of_a_role",
    "tests/unit/test_extending.py::test_no_page_of_the_documentation_is_out_of_reach",
    "tests/unit/test_site_files.py",
]
COMPILED = "tests/compile/test_roles_alone.py::test_each_role_of_a_host_compiles_alone[single-app1]"


def checked(repository: Path, *checks: str) -> subprocess.CompletedProcess[str]:
    """Run checks of a copy, with the copy's own package."""
    path = os.pathsep.join([str(repository), str(repository / "bin")])
    env = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", *checks]
    return subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the repository that has role greeter."""
    folder = tmp_path / "saltern"
    left_out = shutil.ignore_patterns(".git", ".*_cache", "__pycache__", "*.png", "secrets")
    shutil.copytree(ROOT, folder, symlinks=True, ignore=left_out)
    for name, text in NEW.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for name, place, text in ADDED:
        old = (folder / name).read_text()
        assert place in old, f"{name}: {place}"
        (folder / name).write_text(old.replace(place, text + place, 1))
    made = [sys.executable, "-m", "saltern.site.reference"]  # as make reference
    subprocess.run(made, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, check=True)
    return folder


def test_the_page_names_every_file_that_was_touched() -> None:
    page = (ROOT / "docs/extending.md").read_text().split("\n## A role\n")[1].split("\n## ")[0]
    named = {path.replace("ROLE", "greeter") for path in re.findall(r"^\| `([^`]+)` \|", page, re.M)}
    assert {*NEW, *(name for name, _, _ in ADDED)} <= named
    assert not [name for name, _, _ in ADDED if name.endswith(".py")], "no table of ours has roles in it"


def test_a_role_is_added_by_these_files(repository: Path) -> None:
    done = checked(repository, *CHECKS, COMPILED)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("forgotten", ["docs/roles/greeter.md", "salt/greeter/absent.sls"])
def test_a_file_that_was_forgotten_is_told(repository: Path, forgotten: str) -> None:
    (repository / forgotten).unlink()
    done = checked(repository, *CHECKS)
    assert done.returncode == 1 and "greeter" in done.stdout
