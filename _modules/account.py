"""Accounts of services: nobody logs in by them, and what they write is nobody's home."""

from __future__ import annotations

import fnmatch
import grp
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from saltern.host import appfiles

# Not the directory that a service writes to: whatever looks for somebody's own settings in a home (sshd, systemd
# --user, cron, a mailer, PAM's environment files) would take orders from the service there.
HOME = "/nonexistent"
SHELL = "/usr/sbin/nologin"
BUSY = "exit code 8"  # of usermod: the account has processes
SSHD = Path("/usr/sbin/sshd")
NO_LOGIN = ("nologin", "false", "sync")
# By these an account has processes outside of its service's sandbox. Files are named after the account.
OUTSIDE = (Path("/var/lib/systemd/linger"), Path("/var/spool/cron/crontabs"))


# --- pure ---------------------------------------------------------------------------------------------------


def differences(has: dict[str, str] | None, name: str, outside: list[str]) -> dict[str, dict[str, Any]]:
    """Compare an account with that of a service.

    Args:
        has: its group, home and shell; None: there is no such account.
        name: the account's name.
        outside: files that start processes of the account outside of its service.

    Returns:
        ``{what: {old, new}}``, empty when all is well.

    Example:
        >>> differences({"group": "app-a", "home": "/var/lib/apps/a", "shell": "/usr/sbin/nologin"}, "app-a", [])
        {'home': {'old': '/var/lib/apps/a', 'new': '/nonexistent'}}
    """
    if has is None:
        return {"account": {"old": None, "new": name}}
    wanted = {"group": name, "home": HOME, "shell": SHELL}
    found: dict[str, Any] = {key: {"old": has[key], "new": one} for key, one in wanted.items() if has[key] != one}
    return found | {path: {"old": "there", "new": None} for path in outside}


def kept_out(config: str, admins: dict[str, list[str]]) -> str:
    """Say what of sshd's settings keeps admins out that ours let in: sshd lets in whom all of its lists let in.

    Args:
        config: what ``sshd -T -o Port=22`` writes: one setting a line, its name in small letters.
        admins: the names of those who shall come in, each with the groups that the account has.

    Returns:
        A sentence, or nothing.

    Example:
        >>> kept_out("denygroups games", {"ann": ["ann"]})
        ''
    """
    said: dict[str, list[str]] = {}
    for line in config.splitlines():
        name, _, value = line.partition(" ")
        said.setdefault(name, []).extend(value.split())
    where, instead = "/etc/ssh/sshd_config or a file beside it", "settings.yaml: base.admins says who may log in"
    for admin, groups in sorted(admins.items()):
        # Of user@host the host is anybody's guess.
        users = [one for one in said.get("denyusers", []) if _matches([admin], one.partition("@")[0])]
        denied = [one for one in said.get("denygroups", []) if _matches(groups, one)]
        allowed = said.get("allowgroups", [])
        missing = allowed if not any(_matches(groups, one) for one in allowed) else []
        for directive, values in (("DenyUsers", users), ("DenyGroups", denied), ("AllowGroups", missing)):
            if values:
                return f"{where} keeps {admin} out ({directive} {' '.join(values)}): take that line out, for {instead}"
    listens = said.get("listenaddress", [])
    if listens and not any(one.endswith(":22") for one in listens):
        return (
            f"{where} has sshd listen at {listens[0]} alone (ListenAddress), and port 22 is let in: take the port out"
        )
    return ""


def _matches(names: list[str], pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


# --- on the host --------------------------------------------------------------------------------------------


def service_differences(name: str) -> dict[str, dict[str, Any]]:
    """Compare an account of this host with that of a service. Changes nothing.

    Args:
        name: the account's name.

    Example:
        .. code-block:: bash

            salt-call account.service_differences app-demo
    """
    return differences(_account(name), name, [str(path) for path in _outside(name)])


def make_service(name: str) -> None:
    """Make an account, with a group of its own, for a service, or make one that is there a service's.

    Args:
        name: the account's name.

    Raises:
        CommandExecutionError: the account cannot be made or changed.

    Example:
        .. code-block:: bash

            salt-call account.make_service app-demo
    """
    run = appfiles.run
    has = _account(name)
    if not _has_group(name):
        run(["groupadd", "--system", name])
    if has is None:
        run(["useradd", "--system", "--gid", name, "--no-create-home", "--home-dir", HOME, "--shell", SHELL, name])
        return
    for path in _outside(name):
        path.unlink()
    change = ["usermod", "--gid", name, "--home", HOME, "--shell", SHELL, name]
    try:
        run(change)
    except CommandExecutionError as error:
        if BUSY not in str(error):
            raise
        # usermod changes no account that has processes; those of an app that serves need not know, nor stop for it:
        # units name the directory that HOME is. Where it cannot see them it does not mind.
        run(["unshare", "--pid", "--fork", "--mount-proc", *change])


def locked_out(admins: list[str] | None = None) -> str:
    """Say that nobody could log in over ssh any more, when somebody could.

    Args:
        admins: those whom the site names.

    Returns:
        A sentence, or nothing when all admins come in, or without any root, or there is nobody to be locked out.

    Example:
        .. code-block:: bash

            salt-call account.locked_out '[ann]'
    """
    if admins:
        return kept_out(_sshd_config(), {name: _groups(name) for name in admins})
    people = {one.pw_name: Path(one.pw_dir) for one in pwd.getpwall() if Path(one.pw_shell).name not in NO_LOGIN}
    with_keys = sorted(name for name, home in people.items() if _has_keys(home / ".ssh/authorized_keys"))
    if not with_keys or "root" in with_keys:
        return ""
    return (
        "settings.yaml: base.admins: name somebody. Only admins and root may log in over ssh, and root has no key, "
        f"so this apply would lock {', '.join(with_keys)} out."
    )


def _sshd_config() -> str:
    """sshd's settings as all files make them, with our port; nothing where there is no sshd, or none that starts."""
    if not SSHD.exists():
        return ""
    command = [str(SSHD), "-T", "-o", "Port=22"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout


def _groups(name: str) -> list[str]:
    """Return the groups of an account; one that will be made has one of its own name."""
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return [name]
    gids = {*os.getgrouplist(name, account.pw_gid)}
    return [group.gr_name for group in grp.getgrall() if group.gr_gid in gids]


def _account(name: str) -> dict[str, str] | None:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    try:
        group = grp.getgrgid(found.pw_gid).gr_name
    except KeyError:
        group = str(found.pw_gid)
    return {"group": group, "home": found.pw_dir, "shell": found.pw_shell}


def _outside(name: str) -> list[Path]:
    return [folder / name for folder in OUTSIDE if os.path.lexists(folder / name)]


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _has_keys(path: Path) -> bool:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return False
    # A key with a forced command, as cloud images give root one that tells whom to log in as, opens nothing.
    return any(
        line.strip() and not line.lstrip().startswith("#") and "command=" not in line for line in text.splitlines()
    )
