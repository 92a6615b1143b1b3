"""A master runs for months, and `git pull` changes the code of the pillar: the next pillar is made by the new one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.contracts import ROOT

# In a process of its own, for Salt's loader keeps what it has loaded. Each question is a pillar of a master's worker.
ASK = """
import os, sys
import salt.config, salt.loader
folder, site, changed = sys.argv[1:]
opts = salt.config.DEFAULT_MASTER_OPTS.copy()
opts.update(pillar_dirs=[folder], cachedir=f"{folder}/cache", extension_modules=f"{folder}/none", grains={}, id="x")
def ask():
    pillars = salt.loader.pillars(opts, {}, context={})
    return type(pillars["saltern"]("app1", {}, site=site)).__name__ if "saltern" in pillars else "there is none"
said = [ask(), ask()]
for number in range(2):
    with open(changed, "a") as file:
        file.write(f"\\nNEW = {number}\\n")
    later = os.stat(changed).st_mtime + 10 * (number + 1)
    os.utime(changed, (later, later))
    said += [ask(), ask(), ask()]
print(" ".join(said))
"""


def test_the_pillar_is_there_after_its_code_has_changed(tmp_path: Path) -> None:
    for name in ("_pillar", "saltern"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    site = ROOT / "lab/fleets/single"
    changed = tmp_path / "saltern/site/errors.py"
    command = [sys.executable, "-c", ASK, str(tmp_path / "_pillar"), str(site), str(changed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": ""})
    assert done.stdout.split() == ["dict"] * 8, done.stdout + done.stderr[-2000:]


OLD_MASTER = """
import importlib.util, pathlib, shutil, sys
root, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
(folder / "saltern").mkdir()
(folder / "saltern/__init__.py").write_text("def forget_old_code():\\n    raise ValueError('of before')\\n")
(folder / "saltern/layout.py").write_text("")
sys.path.insert(0, str(folder))
import saltern.layout
sys.path.remove(str(folder))
shutil.rmtree(folder / "saltern")
spec = importlib.util.spec_from_file_location("face", root / sys.argv[3])
face = importlib.util.module_from_spec(spec)
spec.loader.exec_module(face)
site = str(root / "lab/fleets/pair")
found = face.ext_pillar("a_master", {}, site) if hasattr(face, "ext_pillar") else face._saltern("layout").ROLES
print(sorted(found))
"""


@pytest.mark.parametrize(("face", "word"), [("_pillar/saltern.py", "ranks"), ("_modules/site.py", "edge")])
def test_a_master_that_runs_since_before_the_package_had_its_place_takes_it(tmp_path, face: str, word: str) -> None:
    """Its processes have imported another `saltern`, whose folder an upgrade has taken away."""
    command = [sys.executable, "-c", OLD_MASTER, str(ROOT), str(tmp_path), face]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"'{word}'" in done.stdout, done.stderr
