"""Base images: each is one overlayfs layer on top of its parent, so a host, too, costs only what it changes.

`trixie-…` is bare Debian by mmdebstrap, `trixie-…-salt` adds what bin/bootstrap installs, and `lab commit` adds layers
with names of the person's own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from debian import REPOSITORY, Refused, digest, need_disk, run
from lab import machine
from lab.output import stage

CACHE = Path("/var/cache/saltern")
IMAGES = CACHE / "images"
WHEELHOUSE = CACHE / "wheelhouse"
# What a bare Debian server has that mmdebstrap's smallest variant leaves out.
PACKAGES = ["systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "ca-certificates", "iproute2", "netbase"]
REPOSITORY_ON_HOST = Path("/srv/saltern")


@dataclass(frozen=True)
class Image:
    """One layer and what it stands on."""

    name: str
    release: str
    parent: str | None

    @property
    def layer(self) -> Path:
        """Return the folder with this layer's files."""
        return IMAGES / self.name / "layer"

    def layers(self) -> list[Path]:
        """Return the layers from the top down, as overlayfs wants them."""
        return [self.layer, *(load(self.parent).layers() if self.parent else [])]


def load(name: str) -> Image:
    """Return the image of that name.

    Raises:
        Refused: there is none; the message names those that there are.
    """
    record = IMAGES / name / "image.json"
    if not record.exists():
        raise Refused(f"there is no image {name!r}; there are: {', '.join(names()) or 'none'}")
    return Image(**json.loads(record.read_text()))


def names() -> list[str]:
    """Return the names of all images, sorted."""
    return sorted(path.parent.name for path in IMAGES.glob("*/image.json"))


@contextmanager
def new_layer(name: str, release: str, parent: str | None) -> Iterator[Path]:
    """Give a folder to fill; it becomes the image `name` only when the block ends well."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    part = IMAGES / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    (part / "layer").mkdir(parents=True)
    try:
        yield part / "layer"
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    (part / "image.json").write_text(json.dumps(asdict(Image(name, release, parent))))
    part.rename(IMAGES / name)


def salted(release: str) -> Image:
    """Return the image that lab hosts boot from: Debian with Salt; make what is missing of it."""
    with _locked():
        base = bare(release)
        name = f"{base.name}-salt-{digest(REPOSITORY / 'requirements/salt.txt', length=8)}"
        if not (IMAGES / name).exists():
            wheelhouse(base)
            with stage(f"Salt on {release}: bin/bootstrap, offline"), new_layer(name, release, base.name) as layer:
                inside(base, layer, ["bin/bootstrap", "--id", "lab"])
                (layer / "etc/salt/minion.d/id.conf").unlink()
        return load(name)


def bare(release: str) -> Image:
    """Return the image with Debian alone; make it when it is missing or this machine's settings have changed."""
    sources, settings = machine.apt_sources(release), machine.apt_settings()
    recipe = [sources, settings, str(sorted(machine.certificates().items())), str(PACKAGES), Path(__file__).read_text()]
    name = f"{release}-{hashlib.sha256(''.join(recipe).encode()).hexdigest()[:8]}"
    if (IMAGES / name).exists():
        return load(name)
    need_disk(str(CACHE), 4)
    with stage(f"Debian {release}: mmdebstrap"), new_layer(name, release, None) as layer:
        conf = layer.parent / "apt.conf"
        conf.write_text(settings)
        sources_file = layer.parent / "apt.sources"
        sources_file.write_text(sources)
        options = ["--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", f"--aptopt={conf}"]
        options += ["--dpkgopt=force-unsafe-io"]
        run(["mmdebstrap", *options, release, str(layer), str(sources_file)])
        conf.unlink()
        sources_file.unlink()
        settle(layer, sources, settings)
    return load(name)


def settle(root: Path, sources: str, settings: str) -> None:
    """Give the new Debian this machine's ways to the world, and take away what every host must have of its own."""
    apt = root / "etc/apt"
    for stale in [*apt.glob("sources.list.d/*"), apt / "sources.list", apt / "apt.conf.d/99mmdebstrap"]:
        stale.unlink(missing_ok=True)
    (apt / "sources.list.d/debian.sources").write_text(sources)
    (apt / "apt.conf.d/90machine").write_text(settings)
    # A lab host's disk is thrown away: no need to wait for it. A server does not get this file.
    (root / "etc/dpkg/dpkg.cfg.d/lab-unsafe-io").write_text("force-unsafe-io\n")
    for name, pem in machine.certificates().items():
        place = root / machine.CA_FOLDER.relative_to("/") / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(pem)
    run(["chroot", str(root), "update-ca-certificates"])
    run(["chroot", str(root), "systemctl", "enable", "systemd-networkd.service", "ssh.service"])
    for own in [root / "etc/machine-id", *root.glob("etc/ssh/ssh_host_*")]:
        own.unlink(missing_ok=True)
    (root / REPOSITORY_ON_HOST.relative_to("/")).mkdir(parents=True)


def wheelhouse(base: Image) -> None:
    """Build Salt's wheels on a throw-away copy of that Debian, by bin/bootstrap itself."""
    WHEELHOUSE.mkdir(parents=True, exist_ok=True)
    lock = digest(REPOSITORY / "requirements/salt.txt")
    if any(path.parent.name.endswith(lock) for path in WHEELHOUSE.glob(f"{base.release}-*/requirements.txt")):
        return
    scratch = IMAGES / "wheelhouse.part"
    with stage(f"Salt's wheels for {base.release}"):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            inside(base, scratch, ["bin/bootstrap", "--wheelhouse-only"])
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def inside(base: Image, upper: Path, command: list[str]) -> None:
    """Run a command of the repository in a copy of an image, with this machine's network; changes go to `upper`.

    Raises:
        Refused: the command failed.
    """
    root, work = upper.with_name(upper.name + ".root"), upper.with_name(upper.name + ".work")
    (upper / "etc").mkdir(exist_ok=True)
    (upper / "etc/pip.conf").write_text(machine.pip_settings())
    mount(base, upper, work, root)
    try:
        binds = [f"--bind-ro={REPOSITORY}:{REPOSITORY_ON_HOST}", f"--bind={WHEELHOUSE}"]
        options = ["--quiet", "--pipe", "--register=no", "--timezone=off", "--resolv-conf=copy-host"]
        if not machine.has_systemd():
            options.append("--keep-unit")
        chdir = f"--chdir={REPOSITORY_ON_HOST}"
        run(["systemd-nspawn", *options, f"--directory={root}", *binds, chdir, *command], stdin=subprocess.DEVNULL)
    finally:
        unmount(root, work)
    (upper / "etc/pip.conf").unlink()


def mount(image: Image, upper: Path, work: Path, root: Path) -> None:
    """Mount a copy of the image at `root`: what changes goes to `upper`."""
    for folder in (upper, work, root):
        folder.mkdir(parents=True, exist_ok=True)
    lower = ":".join(str(layer) for layer in image.layers())
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)])


def unmount(root: Path, work: Path) -> None:
    """Undo `mount`; the upper folder stays. Nothing happens when it is not mounted."""
    if root.is_mount():
        run(["umount", "--recursive", str(root)])
    if root.exists():
        root.rmdir()
    shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _locked() -> Iterator[None]:
    """Let one process at a time build images; a second one waits and then finds them made."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
