"""Names of Linux accounts that are somebody's already: no app runs as one, and no person logs in as one."""

from __future__ import annotations

# Of Debian (base-passwd's, and of packages that we or a server have): accounts, and groups of which a member may more
# than others. Each account of ours has a group of the same name.
SYSTEM_ACCOUNTS = (
    "root", "daemon", "bin", "sys", "mail", "www-data", "backup", "nobody", "postgres", "redis", "haproxy", "sshd",
    "salt", "sync", "games", "man", "lp", "news", "uucp", "proxy", "list", "irc", "gnats", "messagebus", "polkitd",
    "tss", "nginx", "keepalived_script", "chrony", "ntp", "ntpsec", "unbound", "dnsmasq", "bind", "mysql", "postfix",
    "adm", "audio", "cdrom", "clock", "crontab", "dialout", "dip", "disk", "docker", "fax", "floppy", "input", "kmem",
    "kvm", "lxd", "netdev", "nogroup", "operator", "plugdev", "rdma", "render", "sasl", "sgx", "shadow", "src", "ssh",
    "ssl-cert", "staff", "sudo", "tape", "tty", "users", "utmp", "uuidd", "video", "voice", "wheel",
)  # fmt: skip
OWN_ACCOUNTS = ("pkg-", "build-", "saltern", "systemd-", "_")  # beginnings; Debian's newer accounts have "_"
APPS_ACCOUNTS = "app-"  # the beginning of an app's by default


def free(value: str) -> str:
    """Return the name of an account for an app as it is; refuse one that is the system's or Saltern's own.

    Args:
        value: what a file says.

    Raises:
        ValueError: it is.

    Example:
        >>> free("shop")
        'shop'
    """
    if value in SYSTEM_ACCOUNTS:
        raise ValueError(f'"{value}" is an account of the system; take the default or another name')
    if value.startswith(OWN_ACCOUNTS):
        raise ValueError(f'"{value}" could be an account of Saltern or of Debian itself; take another name')
    return value


def persons(value: dict[str, object]) -> dict[str, object]:
    """Return people's accounts as they are; refuse a name that is no person's.

    Args:
        value: anything by account.

    Raises:
        ValueError: one is an account of the system, of Saltern or of an app.

    Example:
        >>> persons({"ann": 1})
        {'ann': 1}
    """
    taken = [name for name in value if name in SYSTEM_ACCOUNTS or name.startswith((*OWN_ACCOUNTS, APPS_ACCOUNTS))]
    if taken:
        said = ", ".join(f'"{name}"' for name in taken)
        raise ValueError(
            f"{said}: an account of the system, of Saltern or of an app, and no person's; take another name"
        )
    return value
