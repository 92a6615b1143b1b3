"""Runs as an app's process, in its sandbox: tries what would lead out of it. Prints what worked, as JSON.

Each probe is a way to reach another app, the host or its kernel by something that is no file; files, sockets and ports
are walked over by tests/hosts/walk.py.
"""

# ruff: noqa: PTH119, PTH116, PTH123, PTH207, SIM115

import ctypes
import glob
import json
import os
import socket
import subprocess

LIBC = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"
CALLS = {  # x86-64 and arm64 numbers
    "io_uring_setup": (425, 425), "perf_event_open": (298, 241), "bpf": (321, 280), "userfaultfd": (323, 282),
    "ptrace": (101, 117), "mount": (165, 40), 
    "setns": (308, 268), "kexec_load": (246, 104), "init_module": (175, 105), "syslog": (103, 116), "iopl": (172, -1),
    "fanotify_init": (300, 262), "open_by_handle_at": (304, 265), "pivot_root": (155, 41), "chroot": (161, 51),
    "quotactl": (179, 60), "acct": (163, 89), "sethostname": (170, 161), "settimeofday": (164, 170),
    "swapon": (167, 224),
    "lookup_dcookie": (212, 18), "pidfd_getfd": (438, 438), "setpriority": (141, 140), "sched_setattr": (314, 274),
    "move_pages": (279, 239), "vhangup": (153, 58), "nfsservctl": (180, 42), "clock_settime": (227, 112),
}  # fmt: skip
FORBIDDEN = (1, 38)  # EPERM, and ENOSYS of a kernel without it
FAMILIES = {
    "AF_NETLINK": 16,
    "AF_PACKET": 17,
    "AF_ALG": 38,
    "AF_VSOCK": 40,
    "AF_BLUETOOTH": 31,
    "AF_TIPC": 30,
    "AF_XDP": 44,
}


def works(action):
    try:
        return action() is not False
    except (OSError, ValueError):
        return False


def call(number):
    ctypes.set_errno(0)
    return number < 0 or LIBC.syscall(number, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() not in FORBIDDEN


def opened(family):
    with socket.socket(family, socket.SOCK_DGRAM if family != 38 else socket.SOCK_SEQPACKET):
        return True


def connects(path):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as one:
            try:
                one.connect(path)
                return True
            except OSError:
                continue
    return False


def runs(*command):
    done = subprocess.run(command, capture_output=True, timeout=10, stdin=subprocess.DEVNULL)
    return done.returncode == 0


def processes():
    """Those of others that are seen at all."""
    return [p for p in glob.glob("/proc/[0-9]*") if os.stat(p).st_uid != os.getuid()]


found = [name for name, numbers in CALLS.items() if call(numbers[0 if X86 else 1]) and numbers[0 if X86 else 1] > 0]
found += [name for name, family in FAMILIES.items() if works(lambda family=family: opened(family))]
found += [f"process {path}" for path in processes()]
found += [f"cgroup {path}" for path in glob.glob("/sys/fs/cgroup/*")]
found += [
    f"device {p}"
    for p in glob.glob("/dev/*")
    if os.path.basename(p)
    in (
        "kmsg",
        "mem",
        "fuse",
        "kvm",
        "vsock",
        "vhost-vsock",
        "vhost-net",
        "autofs",
        "btrfs-control",
        "loop-control",
        "uinput",
        "cuse",
        "userfaultfd",
        "ppp",
        "snapshot",
        "watchdog",
        "rtc0",
        "hpet",
        "port",
    )
]
found += [f"terminal {p}" for p in glob.glob("/dev/pts/[0-9]*") + glob.glob("/dev/tty[0-9]*") if os.access(p, os.W_OK)]
found += [
    f"socket {p}"
    for p in (
        "/run/dbus/system_bus_socket",
        "/run/systemd/private",
        "/run/systemd/journal/io.systemd.journal",
        "/run/systemd/journal/socket",
        "/run/systemd/journal/stdout",
        "/run/systemd/notify",
        "/run/systemd/io.systemd.ManagedOOM",
        "/run/systemd/userdb/io.systemd.DynamicUser",
        "/run/udev/control",
        "/run/systemd/coredump",
        "/run/user/0/bus",
        "/run/cron.sock",
        "/run/initctl",
    )
    if connects(p)
]
found += [f"shared {p}" for p in ("/dev/mqueue", "/dev/hugepages") if os.access(p, os.W_OK)]
found += [
    f"ipc {kind}"
    for kind in ("shm", "sem", "msg")
    if works(lambda kind=kind: len(open(f"/proc/sysvipc/{kind}").readlines()) > 1)
]
found += [
    f"command {' '.join(c)}"
    for c in (
        ("busctl", "--system", "list"),
        ("loginctl", "list-sessions"),
        ("systemctl", "list-units"),
        ("crontab", "-l"),
        ("journalctl", "-n1", "-q"),
        ("su", "-c", "true"),
        ("sudo", "-n", "true"),
        ("systemd-run", "--user", "true"),
        ("mount", "-t", "tmpfs", "none", "/mnt"),
        ("dmesg",),
        ("at", "-l"),
        ("machinectl", "list"),
        ("unshare", "--user", "true"),
        ("keyctl", "show", "@us"),
    )
    if works(lambda c=c: runs(*c))
]
found += [f"raised {what}" for what in ("NoNewPrivs:\t0", "Seccomp:\t0") if what in open("/proc/self/status").read()]
print("PROBED " + json.dumps(found))
