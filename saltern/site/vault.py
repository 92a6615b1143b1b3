"""The files of secrets/ that may lie in Git: encrypted with age to people's own SSH or age keys and to the server's.

    secrets/readers.yaml       who can read them: names and public keys. For people; what counts is in shared.yaml.age.
    secrets/shared.yaml.age    passwords and Django's keys; secrets/ca/ca.key.age the authority's key.

Without readers.yaml the same files lie there in clear, 0600, and never in Git. Each encrypted text begins with what it
is: its name, so that none can be put in the place of another, and its readers, so that nobody becomes one by an edit
of readers.yaml. One that cannot be read, or is empty, is an error, never an empty one: passwords would be made anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

from .document import read_document
from .errors import Problem, SiteError
from .files import replace_file

SHARED = "shared.yaml"
READERS = "readers.yaml"
MAGIC = "saltern secrets 1"
#: The server's own key, and where a person's is looked for.
MACHINE_KEY = Path("/etc/saltern/secrets.key")
IDENTITIES = (MACHINE_KEY, Path("~/.config/age/keys.txt"), Path("~/.ssh/id_ed25519"), Path("~/.ssh/id_rsa"))
VARIABLE = "SALTERN_SECRETS_KEY"
READERS_HEAD = """\
# Who can read the encrypted files beside this one. Changed by `salt-call site.secrets add|drop-person` alone: what
# counts is the list inside shared.yaml.age, and this copy is put right by it.
"""
GITIGNORE = """\
# What may lie in Git is encrypted, or public. Everything else here is made by `salt-call site.generate_secrets`.
*
!.gitignore
!readers.yaml
!shared.yaml.age
!ca*/
!ca*/ca.crt
!ca*/ca.key.age
"""


class Vault:
    """The files of one site's secrets/ that are secret for the whole site.

    Args:
        folder: secrets/.
        identities: files with private keys, the first that exists is used; by default those of this machine and user.
    """

    def __init__(self, folder: Path, identities: tuple[Path, ...] | None = None):
        self.folder = folder
        given = os.environ.get(VARIABLE)
        self.identities = identities or ((Path(given),) if given else IDENTITIES)

    @property
    def encrypted(self) -> bool:
        """Return whether the files are encrypted."""
        return self._path(SHARED).exists() or (self.folder / READERS).exists()

    def exists(self, name: str) -> bool:
        """Return whether a file is there, in the form that it must have.

        Args:
            name: such as `shared.yaml` or `ca/ca.key`.

        Raises:
            SiteError: it is there in clear beside an encrypted one, or encrypted where readers.yaml has gone.
        """
        plain, cipher = self.folder / name, self._path(name)
        if self.encrypted and plain.exists():
            text = (
                f"stands here in clear, and differs from {cipher.name}, which counts: move it out of secrets/, put "
                f"what is new in it into {SHARED} by `salt-call site.secrets edit`, and remove it"
            )
            raise self._error(plain, text)
        return cipher.exists() if self.encrypted else plain.exists()

    def read(self, name: str) -> str:
        """Return the text of a file.

        Args:
            name: such as `shared.yaml` or `ca/ca.key`.

        Raises:
            SiteError: it cannot be read, is empty or damaged, or is another file's.
        """
        return self._open(name)[0]

    def readers(self) -> dict[str, str]:
        """Return who can read the files: public keys by name. Empty while they are not encrypted."""
        if self._path(SHARED).exists():
            return self._open(SHARED)[1]
        return self._listed() if (self.folder / READERS).exists() else {}

    def write(self, name: str, text: str, readers: dict[str, str] | None = None) -> None:
        """Replace a file, all or nothing.

        Args:
            name: such as `shared.yaml` or `ca/ca.key`.
            text: what it shall hold.
            readers: who can read it from now on; by default those who can now.
        """
        chosen = self.readers() if readers is None else readers
        if not chosen:
            replace_file(self.folder / name, text)
            return
        head = {"file": _bound(name), "readers": chosen}
        whole = f"{MAGIC}\n{json.dumps(head, sort_keys=True)}\n{text}"
        recipients = [word for key in chosen.values() for word in ("-r", key)]
        replace_file(self._path(name), self._age(["-e", "-a", *recipients], whole, self._path(name)))

    def names(self) -> list[str]:
        """Return the files that there are, in either form."""
        found = [path for path in (self.folder / SHARED, *self.folder.glob("ca*/ca.key")) if path.exists()]
        found += [path.with_suffix("") for path in self.folder.glob("ca*/ca.key.age")]
        found += [self.folder / SHARED] if self._path(SHARED).exists() else []
        return sorted({str(path.relative_to(self.folder)) for path in found})

    def encrypt_to(self, readers: dict[str, str]) -> None:
        """Encrypt all files to these readers, and take what lies there in clear away. A killed run is taken up again.

        The list of shared.yaml is the one that counts, and `settle` goes by it. So it comes first when somebody leaves,
        and last when somebody comes: a run killed there is as if not begun, and no file alone brings anybody back.
        """
        if not self.encrypted:
            # What is in clear goes only when all of it is there encrypted.
            texts = {name: (self.folder / name).read_text(encoding="utf-8") for name in self.names()}
            for name, text in sorted(texts.items(), key=lambda item: item[0] == SHARED):
                self.write(name, text, readers)
            for name in texts:
                (self.folder / name).unlink()
        else:
            more = readers.items() >= self.readers().items()
            for name in sorted(self.names(), key=lambda name: name == SHARED) if more else [SHARED]:
                self.write(name, self.read(name), readers)
        for last in (f"{SHARED}.last", f"{SHARED}.last.age"):
            (self.folder / last).unlink(missing_ok=True)
        self.settle()

    def settle(self) -> list[str]:
        """Put right what a killed `encrypt_to` or somebody else has left; return what was done."""
        if not self._path(SHARED).exists():
            return []
        readers, done = self.readers(), self.clear_away()
        for name in self.names():
            text, theirs = self._open(name)
            if added := sorted(readers.keys() - theirs.keys()):
                raise self._error(
                    self._path(name),
                    f"{name}.age: {', '.join(added)} cannot read it, and can read {SHARED}.age, though not by "
                    f"site.secrets add: was an older {SHARED}.age put back? Put both files of one commit back, or: "
                    + ", ".join(f"salt-call site.secrets drop-person {one}" for one in added),
                )
            if theirs != readers:
                self.write(name, text, readers)
                done.append(f"{name}.age: encrypted anew, to those who can read shared.yaml.age")
        if not (self.folder / READERS).exists() or self._listed() != readers:
            replace_file(self.folder / READERS, READERS_HEAD + yaml.safe_dump(readers, width=4096))
            done.append(f"{READERS}: put right by the list inside shared.yaml.age")
        if not (self.folder / ".gitignore").exists():
            replace_file(self.folder / ".gitignore", GITIGNORE)
        return done

    def clear_away(self) -> list[str]:
        """Remove what a killed `encrypt_to` has left in clear, where the same is there encrypted; return what."""
        if not self._path(SHARED).exists():
            return []
        done = []
        for name in self.names():
            plain = self.folder / name
            if plain.exists() and plain.read_text(encoding="utf-8") == self._open(name)[0]:
                plain.unlink()
                done.append(f"{name}: removed, it is there encrypted")
        (self.folder / f"{SHARED}.last").unlink(missing_ok=True)
        return done

    def _listed(self) -> dict[str, str]:
        document = read_document(self.folder / READERS)
        data = document.data
        if document.problems or not isinstance(data, dict) or not all(isinstance(key, str) for key in data.values()):
            raise SiteError(document.problems or [document.problem((), "is not a mapping of names to public keys")])
        return {str(name): key for name, key in data.items()}

    def _open(self, name: str) -> tuple[str, dict[str, str]]:
        """Return a file's text, and who can read it."""
        path = self.folder / name
        if not self.encrypted:
            try:
                return path.read_text(encoding="utf-8"), {}
            except (OSError, UnicodeError) as error:
                raise self._error(path, f"cannot be read: {getattr(error, 'strerror', None) or 'no text'}") from None
        path = self._path(name)
        identity = self._identity()
        whole = self._age(["-d", "-i", str(identity), str(path)], None, path)
        magic, _, rest = whole.partition("\n")
        head, _, text = rest.partition("\n")
        try:
            about = json.loads(head)
            bound, readers = about["file"], dict(about["readers"])
        except (ValueError, KeyError, TypeError):
            bound, readers = "", {}
        if magic != MAGIC or not bound:
            raise self._error(path, f"is not what site.secrets has written; put its last good version back ({_GIT})")
        if bound != _bound(name):
            raise self._error(path, f"holds what belongs into {bound}; put its own last good version back ({_GIT})")
        if not text.strip():
            raise self._error(path, f"holds nothing; put its last good version back ({_GIT})")
        return text, readers

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.age"

    def _identity(self) -> Path:
        for path in self.identities:
            if path.expanduser().exists():
                return path.expanduser()
        places = ", ".join(str(path) for path in self.identities)
        raise self._error(
            self._path(SHARED), f"no key to read it with; looked for: {places} (or name one in {VARIABLE})"
        )

    def _age(self, arguments: list[str], text: str | None, path: Path) -> str:
        """Run age; a secret goes in and out by a pipe, never by an argument or a file."""
        if shutil.which("age") is None:
            raise self._error(path, "age is not installed on this machine: apt-get install age")
        done = subprocess.run(
            ["age", *arguments], input=text, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            raise self._error(path, f"{why}; if it is damaged, put its last good version back ({_GIT})")
        return done.stdout

    @staticmethod
    def _error(path: Path, text: str) -> SiteError:
        return SiteError([Problem(str(path), 0, "", text)])


_GIT = "git log -- FILE"


def _bound(name: str) -> str:
    """Return what a file is called inside: the authorities' keys change their folder while one replaces another."""
    return "ca.key" if name.endswith("/ca.key") else name


@contextlib.contextmanager
def in_memory(place: Path = Path("/dev/shm")) -> Iterator[Path]:  # noqa: S108  a tmpfs, in a folder of our own
    """Give a folder in memory that only this user can enter, and removes it however the body ends.

    What a killed one has left goes, too: its name has the process' number.

    Args:
        place: a tmpfs.

    Raises:
        OSError: there is no such place.
    """
    for left in place.glob("saltern-secrets-*"):
        if not Path("/proc", left.name.rpartition("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = place / f"saltern-secrets-{os.getpid()}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
