"""A wheelhouse is checked against the repository's lock, and not against what lies in it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import wheels
from debian import REPOSITORY, Refused, run


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "salt.txt"
    path.write_text(f"""rich==15.0 \\
    --hash=sha256:{sha("rich")} \\
    --hash=sha256:{sha("rich as source")}
    # via salt
salt==3008.3 \\
    --hash=sha256:{sha("salt as source")}
pyzmq==27.3 ; python_version >= "3.11" \\
    --hash=sha256:{sha("pyzmq")}
""")
    return path


@pytest.fixture
def house(tmp_path: Path, lock: Path) -> Path:
    folder = tmp_path / "house"
    folder.mkdir()
    for name, text in {"rich-15.0": "rich", "salt-3008.3": "compiled", "pyzmq-27.3": "pyzmq"}.items():
        (folder / f"{name}-py3-none-any.whl").write_text(text)
    (folder / "requirements.txt").write_text(
        "".join(f"./{path.name} --hash=sha256:{sha(path.read_text())}\n" for path in sorted(folder.glob("*.whl")))
    )
    return folder


def test_what_is_installed_is_the_lock_and_what_was_compiled(house: Path, lock: Path) -> None:
    text = wheels.check(house, lock, None)
    assert f"salt==3008.3 --hash=sha256:{sha('compiled')} \\" in text
    assert text.replace(f" --hash=sha256:{sha('compiled')} ", " ") == lock.read_text()
    assert wheels.check(house, lock, wheels.built_sum(house, lock)) == text


def _told(folder: Path) -> None:
    """As an enemy would, who can write the list, too."""
    lines = [f"./{path.name} --hash=sha256:{sha(path.read_text())}\n" for path in sorted(folder.glob("*.whl"))]
    (folder / "requirements.txt").write_text("".join(lines))


def _change(folder: Path) -> None:
    (folder / "rich-15.0-py3-none-any.whl").write_text("evil")


def _add(folder: Path) -> None:
    (folder / "evil-1.0-py3-none-any.whl").write_text("evil")


def _other_version(folder: Path) -> None:
    (folder / "rich-99.0-py3-none-any.whl").write_text("evil")


def _second(folder: Path) -> None:
    (folder / "salt-3008.3-cp311-abi3-linux_x86_64.whl").write_text("evil")


def _link(folder: Path) -> None:
    (folder / "rich-15.0-py3-none-any.whl").rename(folder.parent / "elsewhere")
    (folder / "rich-15.0-py3-none-any.whl").symlink_to(folder.parent / "elsewhere")


def _script(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text("evil")


def _folder(folder: Path) -> None:
    (folder / "pip").mkdir()


ENEMIES = {
    "changed": (_change, "rich-15.0-py3-none-any.whl"),
    "added": (_add, "evil-1.0-py3-none-any.whl"),
    "another version": (_other_version, "rich-99.0-py3-none-any.whl"),
    "a second one": (_second, "salt-3008.3-"),
    "a link": (_link, "rich-15.0-py3-none-any.whl"),
    "a module beside them": (_script, "sitecustomize.py"),
    "a folder": (_folder, "pip"),
}


@pytest.mark.parametrize(("change", "name"), ENEMIES.values(), ids=ENEMIES)
def test_a_wheelhouse_that_was_changed_is_refused_by_name(
    house: Path, lock: Path, change: Callable[[Path], None], name: str
) -> None:
    change(house)
    _told(house)
    with pytest.raises(Refused, match=name):
        wheels.check(house, lock, None)


def test_what_was_compiled_is_known_by_its_sum(house: Path, lock: Path) -> None:
    before = wheels.built_sum(house, lock)
    (house / "salt-3008.3-py3-none-any.whl").write_text("evil")
    with pytest.raises(Refused, match=r"salt-3008\.3"):
        wheels.check(house, lock, None)  # its own list tells
    _told(house)
    with pytest.raises(Refused, match=r"salt-3008\.3.*--built"):
        wheels.check(house, lock, before)


def test_only_what_has_no_wheel_is_compiled() -> None:
    known = wheels._locked(REPOSITORY / "requirements/salt.txt")
    assert set(wheels.COMPILED) <= {name for name, _ in known}


@pytest.fixture
def enemys(tmp_path: Path) -> Path:
    """A folder that who compiles could fill, and one of root's beside it."""
    folder = tmp_path / "work/wheels"
    folder.mkdir(parents=True)
    (tmp_path / "ours").mkdir()
    (tmp_path / "shadow").write_text("secret")
    return folder


SWAPS: dict[str, Callable[[Path], object]] = {
    "link": lambda path: path.symlink_to(path.parents[2] / "shadow"),
    "second name": lambda path: path.hardlink_to(path.parents[2] / "shadow"),
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
}


@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS)
def test_no_other_file_of_the_host_is_copied(enemys: Path, swap: Callable[[Path], object]) -> None:
    (enemys / "a.whl").write_text("good")
    swap(enemys / "b.whl")
    with pytest.raises(Refused, match=r"b\.whl"):
        wheels.fetch(enemys, enemys.parents[1] / "ours")
    assert sorted(path.name for path in (enemys.parents[1] / "ours").iterdir()) in ([], ["a.whl"])


def test_nor_files_of_another_folder(enemys: Path) -> None:
    enemys.rmdir()
    enemys.symlink_to(enemys.parents[1])
    with pytest.raises(Refused, match="wheels"):
        wheels.fetch(enemys, enemys.parents[1] / "ours")


def test_wheels_are_copied_whole(enemys: Path) -> None:
    (enemys / "a.whl").write_bytes(b"x" * 3_000_000)
    wheels.fetch(enemys, enemys.parents[1] / "ours")
    assert (enemys.parents[1] / "ours/a.whl").read_bytes() == b"x" * 3_000_000


def test_nothing_that_compiles_goes_on_when_root_copies(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root: a namespace of processes is made")
    tmp_path.chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o011)
    place = tmp_path / "late"
    script = f"touch {tmp_path}/first; (setsid sh -c 'sleep 0.5; touch {place}' >/dev/null 2>&1 &)"
    run([*wheels.AS_NOBODY, "sh", "-c", script])
    time.sleep(0.8)
    assert (tmp_path / "first").exists() and not place.exists()
