"""Sources in a Git repository: which commit a revision is, and its files in a directory.

Never interactive: a repository that wants a password or knows no key is an error at once, not a run that hangs.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path

from salt.exceptions import CommandExecutionError

COMMIT = re.compile(r"[0-9a-f]{40}")
QUIET = {"GIT_TERMINAL_PROMPT": "0"}


def commit_in(listing: str, revision: str) -> str | None:
    """Choose the commit of a tag or branch from what ``git ls-remote`` prints; a tag wins over a branch.

    Args:
        listing: lines of a commit, a tab and the full name of a ref.
        revision: short name of a tag or branch.

    Returns:
        40 hex digits, or None. Of an annotated tag the commit (``^{}``), not the tag's own object.

    Example:
        >>> commit_in("aa\\trefs/heads/1.0\\nbb\\trefs/tags/1.0\\ncc\\trefs/tags/1.0^{}", "1.0")
        'cc'
    """
    refs = {name: commit for commit, _, name in (line.partition("\t") for line in listing.splitlines())}
    wanted = (f"refs/tags/{revision}^{{}}", f"refs/tags/{revision}", f"refs/heads/{revision}")
    return next((refs[name] for name in wanted if name in refs), None)


def commit_of(url: str, revision: str, run: Callable[..., str]) -> str:
    """Return the commit that a revision is now. A full commit needs no network.

    Args:
        url: the repository.
        revision: 40 hex digits, a tag or a branch.
        run: runs Git with the network.

    Raises:
        CommandExecutionError: the repository does not answer, or has no such tag or branch.
    """
    if COMMIT.fullmatch(revision):
        return revision
    listing = run(["git", "ls-remote", *_other_end(url), "--", url, *_patterns(revision)], env=QUIET, timeout=60)
    if found := commit_in(listing, revision):
        return found
    raise CommandExecutionError(f"{url} has neither a tag nor a branch {revision}; a commit is given by all 40 digits")


def _other_end(url: str) -> list[str]:
    """Git serves nobody a repository of another owner, and its own server on this host is told nothing by variables."""
    own = url.startswith("file://")
    return ["--upload-pack=git -c 'safe.directory=*' upload-pack"] if own else []


def _patterns(revision: str) -> list[str]:
    return [f"refs/heads/{revision}", f"refs/tags/{revision}", f"refs/tags/{revision}^{{}}"]


def fetch(url: str, commit: str, mirror: Path, run: Callable[..., str]) -> None:
    """Bring a bare copy of a repository up to date, when it lacks a commit.

    Args:
        url: the repository.
        commit: 40 hex digits.
        mirror: the copy's directory; it may be empty.
        run: runs Git with the network, as whom the copy belongs to.

    Raises:
        CommandExecutionError: the repository does not answer or lacks the commit.
    """
    git = ["git", "--git-dir", str(mirror)]
    run([*git, "init", "--quiet", "--bare"], env=QUIET)
    if not _has(git, commit, run):
        every = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        quiet = ["--quiet", "--force", "--prune", "--no-recurse-submodules", "--no-auto-maintenance"]
        run([*git, "fetch", *quiet, *_other_end(url), "--", url, *every], env=QUIET, timeout=1800)
        if not _has(git, commit, run):
            raise CommandExecutionError(f"{url}: no branch or tag of it holds the commit {commit}")


def check_out(commit: str, mirror: Path, directory: Path, run: Callable[..., str]) -> None:
    """Put the files of a commit into an empty directory.

    Args:
        commit: 40 hex digits.
        mirror: a bare copy of the repository, which has it.
        directory: where to.
        run: runs Git without network.

    Raises:
        CommandExecutionError: it failed.
    """
    # Not `git archive`: a project's export-ignore would leave files out. The index is a throw-away.
    index = {**QUIET, "GIT_INDEX_FILE": f"/tmp/saltern-{uuid.uuid4().hex}"}  # noqa: S108 - of the sandbox, or random
    git = ["git", "--git-dir", str(mirror), "--work-tree", str(directory)]
    run([*git, "read-tree", "--reset", "-u", commit], env=index, cwd=directory, timeout=600)


def _has(git: list[str], commit: str, run: Callable[..., str]) -> bool:
    try:
        run([*git, "cat-file", "-e", f"{commit}^{{commit}}"], env=QUIET)
    except CommandExecutionError:
        return False
    return True
