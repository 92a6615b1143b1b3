"""Sources are other people's trees: what a reader tells of a hostile one, what root believes of a hostile reader."""

from __future__ import annotations

import io
import json
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saltern.build import sourcestream as stream
from saltern.build import sourcewalk as walk

SECRET = "secret-of-another"


def told(source: Path, contents: bool = True, **asked: Any) -> io.BytesIO:
    out = io.BytesIO()
    usual = {"everything": False, "texts": ["a.txt"], "privileged": False, "most_files": 50, "most_bytes": 1 << 20}
    walk.tell(str(source), {**usual, "contents": contents, **asked}, out)
    out.seek(0)
    return out


def git(source: Path, *arguments: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@x"]
    subprocess.run(["git", *who, "-C", str(source), *arguments], check=True, capture_output=True)


def linked_folder(source: Path, outside: Path) -> None:
    """An index entry a/secret, and a is a link: Git would call it deleted."""
    (source / "a").mkdir()
    (source / "a/secret").write_text("x")
    git(source, "add", ".")
    (source / "a/secret").unlink()
    (source / "a").rmdir()
    (source / "a").symlink_to(outside)


def link_out(source: Path, outside: Path) -> None:
    (source / "b").symlink_to(outside / "secret")


def link_up(source: Path, outside: Path) -> None:
    (source / "b").symlink_to(f"../{outside.name}/secret")


def link_by_links(source: Path, outside: Path) -> None:
    """Each is inside by its text alone: `here/..` is the source's own top by name, and above it on disk."""
    (source / "here").symlink_to(".")
    (source / "b").symlink_to(f"here/../{outside.name}/secret")


def text_out(source: Path, outside: Path) -> None:
    (source / "a.txt").unlink()
    (source / "a.txt").symlink_to(outside / "secret")


def control(source: Path, outside: Path) -> None:
    (source / "a\x1b[2Jb\nc").write_text("x")


def too_many(source: Path, outside: Path) -> None:
    for number in range(60):
        (source / f"{number}").touch()


def too_large(source: Path, outside: Path) -> None:
    with (source / "sparse").open("wb") as file:
        file.truncate(1 << 40)


def too_deep(source: Path, outside: Path) -> None:
    (source / "/".join(["d"] * 150)).mkdir(parents=True)


def not_text(source: Path, outside: Path) -> None:
    (source / "\udcff\udcfe").touch()


def submodule(source: Path, outside: Path) -> None:
    git(source, "init", "-q", "sub")
    (source / "sub/x").write_text("x")
    git(source / "sub", "add", ".")
    git(source / "sub", "commit", "-q", "-m", "x")
    git(source, "add", "sub")


BOTH = (link_out, link_up, link_by_links, text_out, control, too_many, too_large, not_text)
# Git alone makes the first two, and does not list the third one's empty folders.
HOSTILE = [(one, True) for one in (*BOTH, linked_folder, submodule)] + [(one, False) for one in (*BOTH, too_deep)]


@pytest.mark.parametrize(
    "make, with_git", HOSTILE, ids=[f"{one.__name__}, {'git' if git else 'plain'}" for one, git in HOSTILE]
)
def test_a_hostile_source_is_refused_and_tells_nothing(
    tmp_path: Path, make: Callable[[Path, Path], None], with_git: bool
) -> None:
    source, outside = tmp_path / "source", tmp_path / "outside"
    source.mkdir()
    outside.mkdir()
    (outside / "secret").write_text(SECRET)
    (source / "a.txt").write_text("x")
    if with_git:
        git(source, "init", "-q")
    make(source, outside)
    for contents in (False, True):
        out = io.BytesIO()
        asked = {"everything": False, "texts": ["a.txt"], "privileged": False, "most_files": 50, "most_bytes": 1 << 20}
        with pytest.raises((walk.Unfit, ValueError, OSError)):  # the one or the other side says so
            walk.tell(str(source), asked | {"contents": contents}, out)
            out.seek(0)
            stream.pack(out, tmp_path / "x.tar.gz", 1 << 20) if contents else stream.read(out, 1 << 20)
        assert SECRET.encode() not in out.getvalue()


def test_a_fifo_in_the_place_of_a_file_hangs_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(walk.Unfit, match="neither a file nor a link"):
        told(tmp_path, everything=True, texts=[])


def test_a_text_may_be_a_link_inside(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/real.txt").write_text("hello")
    (tmp_path / "way").symlink_to("sub")
    (tmp_path / "a.txt").symlink_to("way/../way/real.txt".replace("way/../", "sub/../"))
    assert stream.read(told(tmp_path, contents=False, everything=True), 1 << 20)["texts"] == {"a.txt": "hello"}


def test_what_git_is_configured_to_run_is_not_run(tmp_path: Path) -> None:
    source, ran = tmp_path / "source", tmp_path / "ran"
    source.mkdir()
    git(source, "init", "-q")
    (source / "x.sh").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (source / "x.sh").chmod(0o755)
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "x")
    for key in ("core.fsmonitor", "core.hooksPath"):
        git(source, "config", key, str(source / "x.sh"))
    about = stream.read(told(source, contents=False, texts=[]), 1 << 20)
    assert len(about["commit"]) == 40 and not ran.exists()


def test_a_private_file_by_a_second_name_is_not_read_by_who_may_read_all(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text(SECRET)
    (tmp_path / "outside").chmod(0o600)
    source = tmp_path / "source"
    source.mkdir()
    (source / "mine").hardlink_to(tmp_path / "outside")
    with pytest.raises(walk.Unfit, match="second name"):
        told(source, everything=True, texts=[], privileged=True)


def test_a_file_that_is_swapped_for_a_link_while_we_read_is_never_followed(tmp_path: Path) -> None:
    source, outside = tmp_path / "source", tmp_path / "outside"
    (source / "d").mkdir(parents=True)
    outside.mkdir()
    for place in (source / "d/file", outside / "file"):
        place.write_text("own" if place.is_relative_to(source) else SECRET)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (source / "d").rename(source / "e")
            (source / "d").symlink_to(outside)
            (source / "d").unlink()
            (source / "e").rename(source / "d")

    thread = threading.Thread(target=swap)
    thread.start()
    root = os.open(source, os.O_RDONLY)
    try:
        read = set()
        for _ in range(3000):
            try:
                _, _, file = walk.entry(root, "d/file", False)
            except (walk.Unfit, OSError):
                continue
            assert file
            with file:
                read.add(file.read())
        assert read <= {b"own"}
    finally:
        stop.set()
        thread.join()
        os.close(root)


def line(**found: Any) -> bytes:
    return json.dumps(found).encode() + b"\n"


END = line(end=True, commit="none", texts={})
LIES = {
    "no end": line(name="a", kind="file", size=0, sha256=""),
    "more than the end": END + b"x",
    "no JSON": b"hello\n" + END,
    "a list": b"[]\n" + END,
    "a device": line(name="a", kind="device") + END,
    "a path out": line(name="../a", kind="file", size=0) + END,
    "an absolute path": line(name="/etc/passwd", kind="file", size=0) + END,
    "no name": line(name="", kind="file", size=0) + END,
    "a control character": line(name="a\nb", kind="file", size=0) + END,
    "not UTF-8": line(name="a\udcff", kind="file", size=0) + END,
    "a name of a kilometre": line(name="a" * 5000, kind="file", size=0) + END,
    "one name twice": line(name="a", kind="file", size=0) * 2 + END,
    "behind a link": line(name="a", kind="link", target=".") + line(name="a/b", kind="file", size=0) + END,
    "behind a file": line(name="a", kind="file", size=0) + line(name="a/b/c", kind="file", size=0) + END,
    "a link out": line(name="a", kind="link", target="../b") + END,
    "a link to the root": line(name="a", kind="link", target="/etc") + END,
    "links that lead out together": line(name="a", kind="link", target=".")
    + line(name="b", kind="link", target="a/../../x") + END,
    "a size below nothing": line(name="a", kind="file", size=-1) + END,
    "a size that is none": line(name="a", kind="file", size=True) + END,
    "too large": line(name="a", kind="file", size=1 << 40) + END,
    "a commit with an escape": line(end=True, commit="\x1b[2J", texts={}),
    "texts that are none": line(end=True, commit="none", texts={"a": 1}),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_root_believes_no_reader(lie: str, tmp_path: Path) -> None:
    for read in (lambda told: stream.read(told, 1000), lambda told: stream.pack(told, tmp_path / "x", 1000)):
        with pytest.raises(ValueError):
            read(io.BytesIO(LIES[lie]))


def test_who_can_change_the_path_reads_it_himself(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root may give files away")
    own = tmp_path / "theirs/app"
    own.mkdir(parents=True)
    os.chown(tmp_path / "theirs", 65534, 65534)
    assert stream.reader(own, "build-x") == {"user": "nobody", "closed": False}
    (tmp_path / "by-link").symlink_to(own)
    assert stream.reader(tmp_path / "by-link", "build-x")["user"] == "nobody"
    os.chown(tmp_path / "theirs", 54321, 54321)
    assert stream.reader(own, "build-x") == {"user": "build-x", "closed": False}, "a number without a name"


def test_what_is_roots_alone_is_read_out_of_a_closed_view() -> None:
    found = stream.reader("/usr/share", "build-x")
    assert found["user"] == "build-x" and found["closed"] and found["reads"] == ["/usr/share"]
