"""One lab host: a systemd-nspawn machine over an overlay of its image."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from debian import Refused, run
from lab import images, machine, network

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": os.environ.get("TERM", "dumb"),
}
BOOT_SECONDS = 60
REBOOTED = 133  # nspawn's exit status for a host that wants to boot again
STOP_SECONDS = 90  # as long as systemd itself gives a unit


class Host:
    """A host of a lab, found by what is true on this machine: its folder, its mount, its process.

    Args:
        folder: where its layer, mount and console log are.
        host_id: its id in the fleet, which becomes its host name and minion id.
        address: its IPv4 address.
        image: the name of the image that it is made from; looked up then, for a host can outlive its image.
        net: the lab's network.
        binds: (folder here, folder on the host) seen read-only by the host.
    """

    def __init__(
        self,
        folder: Path,
        host_id: str,
        address: str,
        image: str,
        net: network.Network,
        binds: Sequence[tuple[Path, Path]],
    ):
        self.folder, self.id, self.address, self._image, self.network = folder, host_id, address, image, net
        self.binds = binds
        self.root, self.upper, self.work = folder / "root", folder / "upper", folder / "work"
        self.console = folder / "console.log"
        self.machine = f"{net.bridge}-{host_id}"
        self._nspawn: subprocess.Popen | None = None

    @property
    def home(self) -> str:
        """Return where a person types on it: in the repository's root, or, where a master has that alone, at home."""
        repository = str(images.REPOSITORY_ON_HOST)
        return repository if any(str(there) == repository for _, there in self.binds) else "/root"

    @property
    def exists(self) -> bool:
        """Return whether it has been made."""
        return (self.folder / "made").exists()

    @property
    def image(self) -> str:
        """Return the name of the image that it was made from, whatever new hosts are made from."""
        made = self.folder / "made"
        return (made.read_text() if made.exists() else "") or self._image

    @property
    def running(self) -> bool:
        """Return whether its nspawn process is there."""
        return self.nspawn_pid() is not None

    def nspawn_pid(self) -> int | None:
        """Return the process id of its systemd-nspawn; asked of /proc, so that no pid file can lie."""
        needle = f"--directory={self.root}".encode()
        return next(
            (pid for pid, words in machine.processes() if words[0].endswith(b"systemd-nspawn") and needle in words),
            None,
        )

    def leader_pid(self) -> int | None:
        """Return the process id, here, of the host's PID 1."""
        pid = self.nspawn_pid()
        if pid is None:
            return None
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None

    def _leader(self) -> int:
        leader = self.leader_pid()
        if leader is None:
            raise Refused(f"{self.id} is not running: bin/lab up starts it")
        return leader

    @property
    def port(self) -> str:
        """Return the name, here, of its port on the lab's bridge.

        Raises:
            Refused: the host is not running.
        """
        peer = Path(f"/proc/{self._leader()}/root/sys/class/net/host0/iflink").read_text()
        return socket.if_indextoname(int(peer))

    def sees_binds(self) -> bool:
        """Return whether the running host has every folder of this machine that it shall see."""
        root = Path(f"/proc/{self.leader_pid()}/root")
        seen = [(here, root / there.relative_to("/")) for here, there in self.binds]
        return all(there.exists() and here.samefile(there) for here, there in seen)

    def make(self, files: dict[str, tuple[str, int]]) -> None:
        """Make the host's layer with what a new server is given: identity, network, keys.

        Args:
            files: path on the host to (text, mode).
        """
        if self.exists:
            return
        shutil.rmtree(self.upper, ignore_errors=True)
        (self.upper / "etc/ssh").mkdir(parents=True)
        own = {
            "etc/hostname": (f"{self.id}\n", 0o644),
            "etc/machine-id": (f"{uuid.uuid4().hex}\n", 0o444),
            "etc/systemd/network/10-host0.network": (self._interface(), 0o644),
        }
        for name, (text, mode) in (own | files).items():
            place = self.upper / name.lstrip("/")
            if not place.parent.exists():
                place.parent.mkdir(parents=True, mode=0o700 if place.parent.name == ".ssh" else 0o755)
            place.write_text(text)
            place.chmod(mode)
        run(["ssh-keygen", "-A", "-f", str(self.upper)])
        (self.folder / "made").write_text(self._image)

    def _interface(self) -> str:
        lines = ["[Match]", "Name=host0", "[Network]", f"Address={self.address}/{self.network.subnet.prefixlen}"]
        return "\n".join([*lines, f"Gateway={self.network.gateway}", "IPv6AcceptRA=no", "LinkLocalAddressing=no", ""])

    def boot(self) -> None:
        """Start the host and wait until its systemd has finished booting and sshd answers.

        Raises:
            Refused: it did not boot in time; the message names the console log.
        """
        if not self.running:
            if self.root.is_mount():  # left by a crash: an overlay is only good for the process that used it
                run(["umount", "--recursive", str(self.root)])
            shutil.rmtree(self.work, ignore_errors=True)
            self._forget_export()
            images.mount(images.load(self.image), self.upper, self.work, self.root)
            (self.root / "etc/resolv.conf").unlink(missing_ok=True)
            (self.root / "etc/resolv.conf").write_text(network.resolvers())
            self._spawn()
        self._wait_booted()

    def _spawn(self) -> None:
        command = ["systemd-nspawn", "--quiet", "--register=no", "--boot", f"--directory={self.root}"]
        # The machine's name becomes its interface's here: the lab's name keeps two labs' hosts apart.
        command += [f"--machine={self.machine}", f"--hostname={self.id}"]
        command += [f"--network-bridge={self.network.bridge}", "--console=pipe"]
        command += ["--link-journal=no", "--resolv-conf=off", "--timezone=off", "--kill-signal=SIGRTMIN+3"]
        command += [f"--bind-ro={here}:{there}" for here, there in self.binds]
        env = dict(os.environ)
        if not machine.has_unified_cgroups():
            env["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"  # Debian 13's systemd refuses the old hierarchy
        if machine.has_systemd():
            unit = ["systemd-run", "--quiet", "--collect", f"--unit={self.machine}"]
            unit += ["--property=Delegate=yes", "--property=KillMode=mixed"]
            unit += [f"--property={name}={REBOOTED}" for name in ("RestartForceExitStatus", "SuccessExitStatus")]
            unit += [f"--setenv={key}={env[key]}" for key in env if key.startswith("SYSTEMD_NSPAWN")]
            run([*unit, *command, "--keep-unit"])
            return
        # Without systemd here there is no unit whose cgroup the host could have: two hosts would share theirs, and one
        # would wait for the other's processes to end. A shell puts itself into cgroups of the host's own, and execs;
        # another one waits outside of them, and boots the host again when it has rebooted itself.
        groups = [str(group / "cgroup.procs") for group in self._cgroups(make=True)]
        enter = 'for group in $GROUPS_OF_HOST; do echo $$ > "$group" || exit 1; done; exec "$@"'
        again = f'while sh -c "$0" sh "$@"; [ $? = {REBOOTED} ]; do :; done'
        with self.console.open("ab") as log:
            self._nspawn = subprocess.Popen(
                ["sh", "-c", again, enter, *command, "--keep-unit"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env | {"GROUPS_OF_HOST": " ".join(groups)},
                start_new_session=True,
            )

    def _cgroups(self, make: bool = False) -> list[Path]:
        """Return the host's own cgroups on a machine without systemd; made when asked for."""
        groups = [root / "saltern" / self.machine for root in machine.cgroup_roots()]
        for group in groups if make else []:
            group.mkdir(parents=True, exist_ok=True)
        return groups

    def _forget_export(self) -> None:
        """Take away what Debian 13's nspawn leaves when it is killed; it would not start over it."""
        export = Path("/run/systemd/nspawn/unix-export") / self.machine
        if export.is_mount():
            run(["umount", str(export)])
        if export.exists():
            export.rmdir()

    def _remove_cgroups(self) -> None:
        """Take the host's cgroups away, as soon as the last of its processes is gone from them."""
        for group in self._cgroups():
            for folder in [*sorted(group.rglob("*/"), reverse=True), group]:
                deadline = time.monotonic() + 5
                while folder.is_dir():
                    try:
                        folder.rmdir()  # a cgroup's own files go with it
                    except OSError:
                        if time.monotonic() > deadline:
                            raise
                        time.sleep(0.02)
            with contextlib.suppress(OSError):  # other hosts are still in it
                group.parent.rmdir()

    def _wait_booted(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        state = "no answer"
        while time.monotonic() < deadline:
            if self.leader_pid() is not None:
                done = self.execute(["systemctl", "is-system-running"], capture=True)
                state = done.stdout.strip() or state
                if state in ("running", "degraded"):
                    return
            elif self._nspawn is not None and self._nspawn.poll() is not None:
                break
            time.sleep(0.1)
        said = "\n".join(f"    {line}" for line in self.console.read_text(errors="replace").splitlines()[-4:])
        raise Refused(f"{self.id} did not boot ({state}). Its console, {self.console}, ends with:\n{said}")

    def execute(
        self, command: Sequence[str], *, capture: bool = False, stdin: str | None = None, cwd: str = "/root"
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host as root, with a clean environment.

        Args:
            command: the command, no shell.
            capture: return its output rather than show it.
            stdin: text for its standard input.
            cwd: folder on the host.

        Raises:
            Refused: the host is not running.
        """
        return subprocess.run(
            self.argv(command, cwd),
            text=True,
            check=False,
            env=ENVIRONMENT,
            input=stdin,
            stdin=subprocess.DEVNULL if capture and stdin is None else None,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.PIPE if capture else None,
        )

    def argv(self, command: Sequence[str], cwd: str = "/root") -> list[str]:
        """Return the command line that runs `command` on the host from this machine.

        Raises:
            Refused: the host is not running.
        """
        return ["nsenter", f"--target={self._leader()}", "--all", f"--wdns={cwd}", "--", *command]

    def stop(self) -> None:
        """Shut the host down in order; after the time that systemd itself gives, by force. Then unmount."""
        pid = self.nspawn_pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)  # nspawn hands it on as --kill-signal
            if not self._gone_within(STOP_SECONDS):
                self.power_off()
        images.unmount(self.root, self.work)
        self._forget_export()
        self._remove_cgroups()

    def power_off(self) -> None:
        """Pull the plug: end the host's processes without warning. For faults, and for a host that won't stop."""
        # First its cable: a kernel that goes on would take leave of all its connections for the processes that end. And
        # for as long as it waits for answers, the port would be there still, and the host could not be booted.
        with contextlib.suppress(Refused, OSError):
            run(["ip", "link", "delete", self.port])
        pids = [pid for pid in (self.leader_pid(), self.nspawn_pid()) if pid is not None]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self._gone_within(10)
        # PID 1 is gone only when all the host's processes are, and with them its hold on the disk and the network.
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _gone_within(self, seconds: float) -> bool:
        leader = self.leader_pid()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.running:
                return True
            self._wake_visitors(leader)
            time.sleep(0.05)
        return False

    def _wake_visitors(self, leader: int | None) -> None:
        """Let commands that we run on the host see their end.

        A shutdown stops every process before it ends it, and nsenter then stops itself. Asleep, it would never
        take leave of its dead child, and the host would wait for that for ever.
        """
        for pid, words in machine.processes():
            if words[0].endswith(b"nsenter") and f"--target={leader}".encode() in words:
                os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        """End the host at once, for nothing of it is kept, and delete all that is its own."""
        self.power_off()
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def commit(self, name: str) -> None:
        """Turn the host's layer into the image `name`, without what a host must have of its own.

        It is shut down for that, since a copy of a running disk is torn, and booted again.

        Raises:
            Refused: an image of that name exists.
        """
        if name in images.names():
            raise Refused(f"there is an image {name!r} already: choose another name")
        self.stop()
        try:
            self._copy_to(name)
        finally:
            self.boot()

    def _copy_to(self, name: str) -> None:
        with images.new_layer(name, images.load(self.image).release, self.image) as layer:
            run(["cp", "--archive", "--no-target-directory", str(self.upper), str(layer)])
            for own in [
                layer / "etc/machine-id",
                layer / "etc/salt/minion.d/id.conf",
                *layer.glob("etc/salt/pki/minion/minion.p*"),
                *layer.glob("etc/ssh/ssh_host_*"),
                *layer.glob("var/lib/saltern/builds/*/*/manifest.sig"),  # the next site's builder has a key of its own
            ]:
                own.unlink(missing_ok=True)
