"""No secret reaches a log, a diff, a process list or a file that others may read: each is looked for everywhere."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import yaml

from lab.host import Host
from lab.images import REPOSITORY_ON_HOST
from lab.lab import Lab


def secrets_of(lab: Lab) -> set[str]:
    """Every secret value of the lab; of a key, one line from its middle."""

    def values(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            for value in node.values():
                yield from values(value)
        elif isinstance(node, str) and "PRIVATE KEY" in node:
            yield node.splitlines()[2]
        elif isinstance(node, str) and "CERTIFICATE" not in node:
            yield node

    found: set[str] = set()
    for path in (lab.site / "secrets").glob("*.sls"):
        found |= set(values(yaml.safe_load(path.read_text())["secrets"]))
    return found


def search(host: Host, secrets: set[str], command: str) -> str:
    """Run a command on the host whose standard input is the list of secrets, for `grep -F -f -`."""
    return host.execute(["sh", "-c", command], capture=True, stdin="\n".join(secrets)).stdout.strip()


def test_no_secret_is_where_it_should_not_be(lab: Lab, one: Host) -> None:
    secrets = secrets_of(lab)
    assert len(secrets) >= 5
    grep = "grep -F -f - --binary-files=text"
    assert search(one, secrets, f"{grep} -rsl /etc --exclude-dir=x"), "the search finds nothing, so it proves nothing"
    # Diffs and comments of an apply that writes every secret anew, the log of it included.
    written = [
        "haproxy/tls/edge.pem",
        "redis/users-broker.conf",
        "redis/admin.pass",
        "redis/tls/host.key",
        "saltern/tls/host.key",
        "postgresql/tls/host.key",
    ]
    one.execute(["rm", *(f"/etc/{name}" for name in written)])
    command = one.argv(["salt-call", "state.apply", "--log-level=info"], cwd=str(REPOSITORY_ON_HOST))
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout[-2000:]
    assert not [secret for secret in secrets if secret in said.stdout + said.stderr]
    assert search(one, secrets, f"{grep} -sl /proc/[0-9]*/cmdline") == ""
    journal = "exec 3<&0; journalctl --no-pager </dev/null | grep -F -f /dev/fd/3 --binary-files=text"
    assert search(one, secrets, journal) == ""
    assert search(one, secrets, f"{grep} -rsl /var/log") == ""
    listed = search(
        one, secrets, f"{grep} -rsl /etc /var /srv/apps /run /tmp /opt /root --exclude-dir=venv"
    ).splitlines()
    modes = {path: one.execute(["stat", "-c", "%a", path], capture=True).stdout.strip() for path in listed}
    assert not {path: mode for path, mode in modes.items() if mode[-1] != "0"}, "others may read these"
