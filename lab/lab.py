"""A lab: the hosts of one fleet, from nothing to served and back to nothing.

Everything is asked of this machine each time (folders, mounts, processes, interfaces), so that a command that was
killed anywhere is healed by the next one.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from debian import REPOSITORY, Refused, need_disk, run
from lab import fleet as fleets
from lab import images, machine
from lab.host import Host
from lab.network import Network
from lab.output import stage
from saltern.site.errors import SiteError
from saltern.site.layout import ranks
from saltern.site.load import Site, load_site
from saltern.site.secrets import generate_secrets

LABS = Path("/var/lib/saltern/labs")
FLEETS = REPOSITORY / "lab/fleets"
SITE_ON_HOST = images.REPOSITORY_ON_HOST / "site"
LAB_NAME = re.compile(r"[a-z][a-z0-9-]{0,10}")


@dataclass(frozen=True)
class Record:
    """What a lab was made with, kept in its folder."""

    fleet: str
    release: str
    image: str
    prefix: str  # the first three numbers of its hosts' addresses
    repository: str = ""  # the clone whose states its hosts see; older labs have it not noted


class Lab:
    """One lab by its name.

    Args:
        name: the lab's name; that of its fleet unless the person chose another.
    """

    def __init__(self, name: str):
        if not LAB_NAME.fullmatch(name):
            raise Refused(f"{name!r} is no lab name: a small letter, then up to 10 small letters, digits or '-'")
        self.name = name
        self.folder = LABS / name
        self.site = self.folder / "site"
        self.ssh_config = self.folder / "ssh/config"

    @property
    def exists(self) -> bool:
        """Return whether the lab was made."""
        return (self.folder / "lab.json").exists()

    @property
    def running(self) -> bool:
        """Return whether all its hosts run."""
        hosts = self.hosts() if self.exists else []
        return bool(hosts) and all(host.running for host in hosts)

    @property
    def record(self) -> Record:
        """Return what the lab was made with.

        Raises:
            Refused: there is no such lab.
        """
        if not self.exists:
            raise Refused(f"there is no lab {self.name!r}: bin/lab up makes it")
        return Record(**json.loads((self.folder / "lab.json").read_text()))

    @property
    def fleet(self) -> dict:
        """Return the lab's fleet.yaml; no hosts while an `up` that was killed had not come so far."""
        if not (self.site / "fleet.yaml").exists():
            return {"hosts": {}}
        return yaml.safe_load((self.site / "fleet.yaml").read_text())

    @property
    def network(self) -> Network:
        """Return the lab's bridge and NAT."""
        return Network(self.name, ipaddress.IPv4Network(f"{self.record.prefix}.0/24"))

    def hosts(self, image: str | None = None) -> list[Host]:
        """Return the lab's hosts in the order in which they are applied.

        Args:
            image: what hosts that are not made yet will boot from; the lab's own when not given.
        """
        net, image, listed = self.network, image or self.record.image, self.fleet["hosts"]
        replicas = [i for i, entry in listed.items() if "replica_of" in entry]
        ordered = [i for rank in ranks({i: entry["roles"] for i, entry in listed.items()}, replicas) for i in rank]
        return [
            Host(self.folder / "hosts" / i, i, listed[i]["address"], image, net, self._binds(i))
            for i in sorted(ordered, key=lambda i: "master" not in listed[i]["roles"])
        ]

    def left_over(self) -> list[Host]:
        """Return the hosts that were made and that the fleet does not have any more."""
        made, listed = self.folder.glob("hosts/*"), self.fleet["hosts"]
        gone = sorted(path for path in made if path.name not in listed)
        return [Host(path, path.name, "", self.record.image, self.network, []) for path in gone]

    def drop(self, host_id: str) -> None:
        """Delete a host's disk, as when a server is given back or burns; `make` gives one of that name a new key.

        Raises:
            Refused: the lab has no such host.
        """
        known = {host.id: host for host in [*self.left_over(), *self.hosts()]}
        if host_id not in known:
            raise Refused(f"lab {self.name} has no host {host_id!r}; it has: {', '.join(sorted(known))}")
        known[host_id].power_off()
        known[host_id].remove()
        shutil.rmtree(self.folder / "keys" / host_id, ignore_errors=True)

    def _binds(self, host_id: str) -> list[tuple[Path, Path]]:
        """Return what a host sees of this machine. Of a fleet, the master alone has the repository and the secrets."""
        masters = fleets.roles_of(self.fleet, "master")
        binds = [(folder, folder) for folder in self._source_folders()]
        if host_id in masters or not masters:
            binds = [(REPOSITORY, images.REPOSITORY_ON_HOST), (self.site, SITE_ON_HOST), *binds]
        if host_id in masters:
            binds.append(fleets.WHEELHOUSE)
        return binds

    @property
    def master(self) -> Host | None:
        """Return the host with role master, when the fleet has one."""
        return next((self.host(i) for i in fleets.roles_of(self.fleet, "master")), None)

    def minions(self) -> list[Host]:
        """Return the hosts that take orders from the master."""
        return [host for host in self.hosts() if "minion" in self.fleet["hosts"][host.id]["roles"]]

    def _source_folders(self) -> list[Path]:
        """Folders of this machine, outside the repository, that apps come from; hosts see them at the same path."""
        apps = [yaml.safe_load(path.read_text()) for path in sorted((self.site / "apps").glob("*.yaml"))]
        named = {(app.get("source") or {}).get("directory") for app in apps}
        folders = {Path(name) for name in named if name and name.startswith("/")}
        return sorted(folder for folder in folders if folder.is_dir() and not folder.is_relative_to(REPOSITORY))

    def host(self, host_id: str) -> Host:
        """Return one host.

        Raises:
            Refused: the lab has no such host; the message names those it has.
        """
        hosts = {host.id: host for host in self.hosts()}
        if host_id not in hosts:
            raise Refused(f"lab {self.name} has no host {host_id!r}; it has: {', '.join(hosts)}")
        return hosts[host_id]

    def cut(self, one: str, other: str) -> None:
        """Cut two hosts off from each other, until `Network.mend`.

        Args:
            one: a host's id.
            other: another's.

        Raises:
            Refused: no such host, the same one twice, or one that does not run.
        """
        if one == other:
            raise Refused(f"{one} cannot be cut off from itself: name two hosts")
        hosts = [self.host(one), self.host(other)]
        self.network.cut(*((host.id, host.port) for host in hosts))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one command at a time change the lab.

        Raises:
            Refused: another one is at work.
        """
        LABS.mkdir(parents=True, exist_ok=True)
        with (LABS / f"{self.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(f"another command is changing lab {self.name}: wait until it has ended") from None
            yield

    def make(self, fleet: str, release: str | None = None, image: str | None = None) -> None:
        """Make the lab, its network and its hosts, and boot what is not running.

        Args:
            fleet: a name under lab/fleets/, or the path of a site.
            release: the Debian codename of new hosts; the newest when not given.
            image: boot new hosts from this image rather than from the release's own.

        Raises:
            Refused: no such fleet, or the lab was made with other settings.
        """
        if self.exists:
            self.refuse_other_clone()
        source = fleet_folder(fleet)
        checked_site(source)
        if self.exists:
            self._refuse_other(fleet=str(source), release=release or (images.load(image).release if image else None))
            self.write(replace(self.record, repository=str(REPOSITORY)))
        else:
            need_disk(str(LABS), 2)
        machine.prepare()
        if not self.exists:
            chosen = images.load(image) if image else images.salted(release or machine.known_releases()[0])
            with _one_at_a_time():  # two labs made at once must not choose the same network
                prefix = free_prefix(source)
                self.write(Record(str(source), chosen.release, chosen.name, prefix, str(REPOSITORY)))
        self.refresh_site()
        self.network.up()
        self._make_keys()
        hosts = self.hosts(image)
        for host in hosts:
            if host.running and not host.sees_binds():
                with stage(f"stopping {host.id}, to show it a folder of this machine"):
                    host.stop()
        down = [host for host in hosts if not host.running]
        if down:
            with stage(f"booting {', '.join(host.id for host in down)}"):
                for host in down:
                    host.make(self._files(host))
                    host.boot()
        self._write_ssh_config()
        if self.master and fleets.readers(self.master) is None:
            with stage(f"{self.master.id}: bin/bootstrap master"):
                fleets.become_master(self.master)
            self.generate_secrets()
        elif self.master:
            fleets.hand_over_keys(self.master, self.folder / "keys", self.fleet)

    def write(self, record: Record) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.folder / "lab.json.new"
        fresh.write_text(json.dumps(asdict(record), indent=1))
        fresh.rename(self.folder / "lab.json")

    def refuse_other_clone(self) -> None:
        """Refuse a lab whose hosts see another clone of the repository: its states are not the ones at hand.

        Raises:
            Refused: it was made from another clone.
        """
        made = self.record.repository
        if made and made != str(REPOSITORY):
            raise Refused(
                f"lab {self.name} belongs to another clone, {made}: choose another --lab NAME here, or\n"
                f"  bin/lab up --take-over --lab {self.name}  which reboots its hosts with this clone's states"
            )

    def take_over(self) -> None:
        """Make the lab this clone's; a fleet that was the other clone's own is this one's of that name."""
        record = self.record
        fleet = Path(record.fleet)
        if record.repository and fleet.is_relative_to(record.repository):
            fleet = REPOSITORY / fleet.relative_to(record.repository)
        self.write(replace(record, repository=str(REPOSITORY), fleet=str(fleet)))

    def _refuse_other(self, **wanted: str | None) -> None:
        made = asdict(self.record)
        for key, value in wanted.items():
            if value is not None and made[key] != value:
                hint = f"bin/lab destroy --lab {self.name}  first, or choose another --lab NAME"
                raise Refused(f"lab {self.name} was made with {key} {made[key]}, not {value}: {hint}")

    def refresh_site(self) -> None:
        """Bring the site that hosts see up to the fleet's files, and generate the secrets that are missing.

        Each file is replaced in its folder, which hosts have mounted.
        """
        source, prefix = Path(self.record.fleet), self.record.prefix
        old_prefix = fleet_prefix(source)
        files = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
        wanted = {name for name in files if "secrets" not in name.parts}
        self.site.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.site.rglob("*"), reverse=True):
            name = path.relative_to(self.site)
            if path.is_file() and "secrets" not in name.parts and name not in wanted:
                path.unlink()
        for name in wanted:
            data = (source / name).read_bytes()
            if name.suffix in (".yaml", ".sls"):
                data = data.replace(f"{old_prefix}.".encode(), f"{prefix}.".encode())
            place = self.site / name
            if not place.exists() or place.read_bytes() != data:
                place.parent.mkdir(parents=True, exist_ok=True)
                fresh = place.with_name(place.name + ".new")
                fresh.write_bytes(data)
                fresh.rename(place)
        self.generate_secrets()

    def generate_secrets(self) -> None:
        """Make the site's secrets. A master runs as a user of its own there, whose group may read the hosts' files."""
        master = self.master
        generate_secrets(checked_site(self.site), group=fleets.readers(master) if master else None)

    def _make_keys(self) -> None:
        key = self.folder / "ssh/id_ed25519"
        if not key.exists():
            key.parent.mkdir(exist_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"saltern lab {self.name}", "-f", str(key)])
        if self.master:
            fleets.make_keys(self.folder / "keys", self.fleet)

    def _files(self, host: Host) -> dict[str, tuple[str, int]]:
        """Return what a provider or an installer gives a new server, beside its disk."""
        domain = self.fleet["domain"]
        names = [f"{entry['address']} {i}.{domain} {i}" for i, entry in self.fleet["hosts"].items()]
        key = (self.folder / "ssh/id_ed25519.pub").read_text()
        files = {
            "etc/hosts": ("\n".join(["127.0.0.1 localhost", *names, ""]), 0o644),
            "root/.ssh/authorized_keys": (key, 0o600),
            "etc/salt/minion.d/id.conf": (f"id: {host.id}\n", 0o644),
        }
        if "builder" in self.fleet["hosts"][host.id]["roles"]:  # the only hosts that may reach an index
            files["etc/pip.conf"] = (machine.pip_settings(), 0o644)
        return files | fleets.seeds(self.folder / "keys", self.fleet, host.id)

    def _write_ssh_config(self) -> None:
        folder = self.folder / "ssh"
        known, config = [], []
        for host in self.hosts():
            public = (host.upper / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
            known.append(f"{host.address},{host.id} {' '.join(public)}")
            config.append(f"Host {host.id}\n  HostName {host.address}")
        (folder / "known_hosts").write_text("\n".join([*known, ""]))
        options = ["Host *", "  User root", f"  IdentityFile {folder}/id_ed25519", "  IdentitiesOnly yes"]
        options += [f"  UserKnownHostsFile {folder}/known_hosts", "  StrictHostKeyChecking yes", "  LogLevel ERROR", ""]
        self.ssh_config.write_text("\n".join([*config, *options]))
        if self.master:  # the operator's key, for salt-ssh
            fleets.write_operator(self.master, folder)

    def down(self) -> None:
        """Shut all hosts down and take the network away; the disks stay."""
        for host in [*self.left_over(), *self.hosts()]:
            if host.running or host.root.is_mount():
                with stage(f"stopping {host.id}"):
                    host.stop()
        self.network.down()

    def destroy(self) -> None:
        """Remove the lab: no process, mount, interface, table or folder of it stays."""
        if self.exists:
            with ThreadPoolExecutor() as threads:  # the kernel takes a second for each, most of it waiting
                list(threads.map(Host.remove, [*self.left_over(), *self.hosts()]))
            self.network.down()
        shutil.rmtree(self.folder, ignore_errors=True)
        (LABS / f"{self.name}.lock").unlink(missing_ok=True)


def all_labs() -> list[Lab]:
    """Return the labs of this machine, by name."""
    return [Lab(path.parent.name) for path in sorted(LABS.glob("*/lab.json"))]


def fleet_folder(fleet: str) -> Path:
    """Return the site's folder for a fleet's name or path.

    Raises:
        Refused: there is none; the message names those that there are.
    """
    for folder in (FLEETS / fleet, Path(fleet)):
        if (folder / "fleet.yaml").exists():
            return folder.resolve()
    known = sorted(path.parent.name for path in FLEETS.glob("*/fleet.yaml"))
    raise Refused(f"there is no fleet {fleet!r}: name one of {', '.join(known)}, or a folder with a fleet.yaml")


def checked_site(folder: Path) -> Site:
    """Return the site in a folder.

    Raises:
        Refused: every error of its files.
    """
    try:
        return load_site(folder)
    except SiteError as error:
        raise Refused(f"nothing was changed, because of this:\n{error}") from None


def fleet_prefix(source: Path) -> str:
    """Return the first three numbers of the fleet's addresses.

    Raises:
        Refused: its hosts are not in one /24 network.
    """
    hosts = yaml.safe_load((source / "fleet.yaml").read_text())["hosts"]
    prefixes = {host["address"].rsplit(".", 1)[0] for host in hosts.values()}
    if len(prefixes) != 1:
        raise Refused(f"{source}/fleet.yaml: a lab's hosts must share one /24 network, these have {sorted(prefixes)}")
    return prefixes.pop()


def free_prefix(source: Path) -> str:
    """Return the fleet's own prefix, or, when another lab has it, one that no lab uses."""
    fleets = fleet_prefix(source)
    taken = {lab.record.prefix for lab in all_labs()}
    if fleets not in taken:
        return fleets
    head, last = fleets.rsplit(".", 1)
    for number in range(int(last) + 1, 255):
        if f"{head}.{number}" not in taken:
            return f"{head}.{number}"
    raise Refused("no free network for another lab: bin/lab destroy one")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with (LABS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
