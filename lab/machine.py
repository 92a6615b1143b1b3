"""What this machine has, and how it reaches the world: the lab hosts are given the same."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from debian import SUPPORTED, install_packages, release

PACKAGES = [
    "systemd-container",
    "mmdebstrap",
    "nftables",
    "iproute2",
    "openssh-client",
    "debian-archive-keyring",
    "age",
]
CA_FOLDER = Path("/usr/local/share/ca-certificates")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
APT_KEYS = re.compile(r"^Acquire::(https?|ftp|Check-|Retries|ForceIPv|Languages)")


def prepare() -> None:
    """Install what the lab needs of Debian on this machine."""
    install_packages(PACKAGES)


def processes() -> Iterator[tuple[int, list[bytes]]]:
    """Yield the id and the command line of every process of this machine, which may have no ps."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            yield int(path.parent.name), path.read_bytes().split(b"\0")


def has_systemd() -> bool:
    """Return whether PID 1 of this machine is systemd."""
    return Path("/run/systemd/system").is_dir()


def has_unified_cgroups() -> bool:
    """Return whether this machine has cgroups version 2 only; Debian 13 boots on nothing else without being told."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def cgroup_roots() -> list[Path]:
    """Return where systemd's cgroup hierarchies are mounted: the unified one and, if there is one, the named one."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(m[1]) for m in mounts if m[2] == "cgroup2" or (m[2] == "cgroup" and "name=systemd" in m[3].split(","))]


def apt_sources(wanted: str) -> str:
    """Return this machine's own Debian sources, for the Debian release `wanted`, as deb822 or one-line stanzas.

    Sources of others (their suites are not this release's) are left out.

    Args:
        wanted: a Debian codename, e.g. 'trixie'.

    Returns:
        (text, extension): the sources and 'sources' (deb822) or 'list'.
    """
    here = release()
    stanzas: list[str] = []
    for path in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        stanzas += deb822_of(path.read_text(), here, wanted)
    lists = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.list"))]
    for path in lists:
        if path.exists():
            stanzas += [as_deb822(line) for line in path.read_text().splitlines() if is_debian_line(line, here)]
    return "\n\n".join(s.replace(here, wanted) for s in stanzas) + "\n"


def deb822_of(text: str, here: str, wanted: str) -> list[str]:
    """Return the stanzas of a deb822 file whose suites all are Debian `here`'s own."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
        suites = [line.split(":", 1)[1].split() for line in lines if line.lower().startswith("suites:")]
        if suites and suites[0] and all(suite == here or suite.startswith(f"{here}-") for suite in suites[0]):
            found.append("\n".join(lines))
    return found


def is_debian_line(line: str, here: str) -> bool:
    """Return whether a one-line source is a Debian source for the release `here`."""
    return bool(re.match(rf"\s*deb\s+(\[[^]]*\]\s+)?\S+\s+{here}([-/]\S*)?\s+main", line))


def as_deb822(line: str) -> str:
    """Rewrite a one-line source as a deb822 stanza."""
    match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)", line)
    assert match, line
    options, uri, suite, components = match.groups()
    stanza = [f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {components}"]
    for option in (options or "").split():
        key, value = option.split("=", 1)
        stanza.append(f"{key.title()}: {value.replace(',', ' ')}")
    if not any(part.startswith("Signed-By") for part in stanza):
        stanza.append("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg")
    return "\n".join(stanza)


def apt_settings() -> str:
    """Return the settings of this machine's apt that concern how it reaches its sources (proxies, checks)."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    kept = [line for line in dump.splitlines() if APT_KEYS.match(line) and not line.endswith(' "";')]
    return "\n".join(kept) + "\n"


def pip_settings() -> str:
    """Return a pip.conf with this machine's index settings.

    Folders of this machine (file:, find-links) mean nothing on a lab host and are left out.
    """
    dump = subprocess.run(
        ["/usr/bin/python3", "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    values: dict[str, str] = {}
    for line in dump.splitlines():
        key, _, value = line.partition("=")
        name = key.split(".")[-1]
        words = [word for word in value.strip("'\"").split() if "://" not in word or not word.startswith("file:")]
        if name in ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout") and words:
            values[name.removeprefix("default-")] = " ".join(words)
    values["cert"] = BUNDLE
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in sorted(values.items()))


def certificates() -> dict[str, bytes]:
    """Return the CA certificates that this machine trusts beyond Debian's: file name to PEM."""
    found = {path.name: path.read_bytes() for path in sorted(CA_FOLDER.glob("**/*.crt"))}
    own = os.environ.get("SSL_CERT_FILE", BUNDLE)
    if own != BUNDLE and Path(own).exists():
        parts = re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", Path(own).read_bytes(), re.S)
        found |= {f"machine-{number:03}.crt": part for number, part in enumerate(parts)}
    return found


def known_releases() -> list[str]:
    """Return the Debian codenames that lab hosts can have, newest first."""
    return list(reversed(SUPPORTED.values()))
