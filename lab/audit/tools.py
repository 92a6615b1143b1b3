"""The auditors. Those that must run on a host are unpacked into its memory for that time; none is installed there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from debian import REPOSITORY, Refused, digest, release, venv_from_lock
from lab import images, machine
from lab.host import Host
from lab.output import stage

LOCK = REPOSITORY / "requirements/audit.txt"
PACKAGES = ["lynis", "openscap-scanner"]
# Debian 12's own content does not know Debian 12; Debian 13's does, and does not know Debian 13.
CONTENT_OF, CONTENT = "trixie", "ssg-debian12-ds.xml"
OLD_VERSION, BOTH_VERSIONS = "^12.[0-9]+$", "^1[23].[0-9]+$"
PLACE = "run/saltern-audit"
# In the copy of an image: the packages' files, and the content of another release, without installing that one.
UNPACK = """
set -eu
apt-get update -q
apt-get install -q -y --no-install-recommends $PACKAGES
mkdir -p /tools/lynis/plugins /tools/lists/partial /tools/content
oscap=$(command -v oscap)
cp "$oscap" /tools/oscap
mkdir /tools/lib
ldd "$oscap" | sed -n 's/.* => \\(\\/[^ ]*\\) .*/\\1/p' | xargs -I{} cp -L {} /tools/lib/
rm -f /tools/lib/libc.so.* /tools/lib/libm.so.* /tools/lib/ld-*
cp -r /usr/share/openscap/schemas /usr/share/openscap/xsl /tools/
cp -r /usr/share/lynis/include /usr/share/lynis/db /tools/lynis/
cp "$(command -v lynis)" /tools/lynis/lynis
cp /etc/lynis/default.prf /tools/lynis/
other="-o Dir::Etc::SourceList=/content.sources -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=/tools/lists"
apt-get $other -q update
cd /tools/content
apt-get $other -q download ssg-debian
dpkg-deb --fsys-tarfile ssg-debian_*.deb | tar -xO "./usr/share/xml/scap/ssg/content/$CONTENT" > /tools/content.xml
rm -rf /tools/lists /tools/content
"""


def python() -> Path:
    """Return the Python of the environment with the auditors that look from outside; made when it is missing."""
    folder = Path("/var/cache/saltern/audit") / f"{release()}-{digest(LOCK)}"
    if not (folder / ".complete").exists():
        with stage("the audit's own Python environment, from requirements/audit.txt"):
            venv_from_lock(folder, LOCK)
    return folder / "bin/python"


def folder(codename: str) -> Path:
    """Return the folder with the auditors for hosts of one Debian release; made when it is missing."""
    recipe = digest(Path(__file__), length=8)
    base = images.salted(codename)
    name = f"{base.name}-audit-{recipe}"
    with images._locked():
        if name not in images.names():
            with stage(f"the auditors for {codename}"), images.new_layer(name, codename, base.name) as layer:
                _unpack(base, layer)
    return images.load(name).layer


def _unpack(base: images.Image, layer: Path) -> None:
    """Fill a layer with the auditors' files alone."""
    scratch = layer.with_name("scratch")
    scratch.mkdir()
    # A .sources name makes apt read the file as deb822.
    (scratch / "content.sources").write_text(machine.apt_sources(CONTENT_OF))
    variables = [f"PACKAGES={' '.join(PACKAGES)}", f"CONTENT={CONTENT}", "DEBIAN_FRONTEND=noninteractive"]
    images.inside(base, scratch, ["env", *variables, "sh", "-c", UNPACK])
    shutil.copytree(scratch / "tools", layer, dirs_exist_ok=True)
    content = layer / "content.xml"
    content.write_text(content.read_text().replace(OLD_VERSION, BOTH_VERSIONS))
    shutil.rmtree(scratch)


@contextmanager
def unpacked(host: Host, codename: str) -> Iterator[str]:
    """Unpack the auditors into the host's memory, say where, and take them away again."""
    leader = host.leader_pid()
    if leader is None:
        raise Refused(f"{host.id} is not running: bin/lab up starts it")
    place = Path(f"/proc/{leader}/root") / PLACE
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    try:
        shutil.copytree(folder(codename), place, dirs_exist_ok=True, symlinks=True)
        yield f"/{PLACE}"
    finally:
        shutil.rmtree(place, ignore_errors=True)


def settle(host: Host) -> None:
    """Let a host that was just made look at its own files for the first time, as it does a minute after its boot."""
    _asked(host, "test -e /var/lib/aide/aide.db || systemctl start saltern-integrity.service")


def lynis(host: Host, place: str) -> str:
    """Return Lynis' report."""
    command = (
        "./lynis audit system --quick --no-colors --quiet --no-plugins --logfile /dev/null --report-file ../report.dat"
    )
    _asked(host, f"cd {place}/lynis && {command} >/dev/null 2>&1; cat ../report.dat; rm -f /run/lynis.pid")
    return _asked(host, f"cat {place}/report.dat")


def openscap(host: Host, place: str, profile: str) -> str:
    """Return what oscap prints about the rules of one of ANSSI's profiles."""
    variables = f"LD_LIBRARY_PATH={place}/lib OSCAP_SCHEMA_PATH={place}/schemas OSCAP_XSLT_PATH={place}/xsl"
    chosen = f"xccdf_org.ssgproject.content_profile_anssi_bp28_{profile}"
    # 2 says that some rule failed.
    command = f"{variables} {place}/oscap xccdf eval --skip-validation --profile {chosen} {place}/content.xml"
    return _asked(host, f"{command} 2>/dev/null")


def exposure(host: Host) -> tuple[str, list[str]]:
    """Return what systemd-analyze says of all services, and which of them run."""
    units = _asked(host, "systemctl list-units --type=service --state=running --plain --no-legend | cut -d' ' -f1")
    return _asked(host, "systemd-analyze security --no-pager --json=short"), units.split()


def verify(host: Host) -> str:
    """Return the files that are not what their packages brought."""
    return _asked(host, "dpkg --verify")


def codename(host: Host) -> str:
    """Return the host's Debian release."""
    return _asked(host, ". /etc/os-release; echo $VERSION_CODENAME").strip()


def ssh_audit(host: Host, policy: str) -> str:
    """Return what ssh-audit, here, says about the host's sshd."""
    command = [str(python()), "-c", "from ssh_audit.ssh_audit import main; main()"]
    done = subprocess.run([*command, "-P", policy, "-j", host.address], capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


# Speaks TLS to each address, and prints those that answered in it: [[address, port]].
PROBE = """
import json, socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
found = []
for address, port in json.load(sys.stdin):
    try:
        with socket.create_connection((address, port), 3) as plain, context.wrap_socket(plain):
            found.append([address, port])
    except ssl.SSLError as why:
        if "CERTIFICATE_REQUIRED" in str(why) or "HANDSHAKE_FAILURE" in str(why):
            found.append([address, port])
    except OSError:
        pass
print(json.dumps(found))
"""


def speaks_tls(host: Host, address: str, port: int) -> bool:
    """Return whether something on the host answers a TLS handshake there."""
    done = _in_its_network(host, ["-c", PROBE], stdin=json.dumps([[address, port]]))
    return bool(json.loads(done or "[]"))


def listening(host: Host, port: int) -> str | None:
    """Return the address on which a host listens on a port: its own rather than loopback; None when it does not."""
    found = set()
    for line in _asked(host, "ss -Hltn").splitlines():
        address, _, number = line.split()[3].rpartition(":")
        if number == str(port):
            found.add(address)
    if not found:
        return None
    return "127.0.0.1" if found <= {"127.0.0.1", "[::1]"} else host.address


def sslyze(host: Host, address: str, port: int, profile: str, ca: Path, name: str, starttls: str | None = None) -> str:
    """Return what sslyze, in the host's network, says about a server and one of Mozilla's profiles."""
    command = [
        "-W",
        "ignore",
        "-m",
        "sslyze",
        f"--mozilla_config={profile}",
        "--certinfo",
        "--certinfo_ca_file",
        str(ca),
    ]
    command += ["--sni", name, *(["--starttls", starttls] if starttls else []), f"{address}:{port}"]
    return _in_its_network(host, command)


def _in_its_network(host: Host, arguments: list[str], stdin: str | None = None) -> str:
    """Run the audit's Python in a host's network, but with this machine's files."""
    command = ["nsenter", f"--target={host.leader_pid()}", "--net", "--", str(python()), *arguments]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env=env)
    return done.stdout + done.stderr


def _asked(host: Host, script: str) -> str:
    return host.execute(["sh", "-c", script], capture=True).stdout
