"""What the lab serves, asked as a browser would: by name, over TLS, trusting only the lab's CA."""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import time
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from debian import Refused
from saltern.site.layout import DEFAULTS

# What the platform answers when no app does: no such name, none that answers well, none up, none in time.
NOT_SERVED = (421, 502, 503, 504)


@dataclass(frozen=True)
class Page:
    """One app's first page."""

    hostname: str
    address: str
    port: int
    status: int = 200  # with which it was served

    @property
    def url(self) -> str:
        """Return the page's URL."""
        return f"https://{self.hostname}/" if self.port == 443 else f"https://{self.hostname}:{self.port}/"


def pages(site: Path) -> list[Page]:
    """Return the first page of every app in a site; the team's own apps come first.

    They are where the world finds them: at the address that the edges share, or at the only edge.
    """
    fleet = yaml.safe_load((site / "fleet.yaml").read_text())
    edges = [host["address"] for host in fleet["hosts"].values() if "edge" in host["roles"]]
    if not edges:
        return []
    address, port = fleet.get("virtual_address") or edges[0], https_port(site)
    apps = [yaml.safe_load(path.read_text()) for path in sorted((site / "apps").glob("*.yaml"))]
    own_first = sorted(apps, key=lambda app: "requirement" in app["source"])
    return [Page(app["hostnames"][0], address, port) for app in own_first]


def https_port(site: Path) -> int:
    """Return the port of HTTPS by the site's settings, or by default."""
    settings = site / "settings.yaml"
    files = [DEFAULTS / "edge.sls", *([settings] if settings.exists() else [])]
    found = [(yaml.safe_load(file.read_text()) or {}).get("edge") or {} for file in files]
    return int({**found[0], **found[-1]}["https_port"])


def ca_file(site: Path) -> Path:
    """Return the certificate of the fleet's own CA."""
    return site / "secrets/ca/ca.crt"


class Connection(http.client.HTTPSConnection):
    """An HTTPS connection that checks the page's name but goes to its edge's address, whatever DNS says.

    Args:
        page: where to.
        context: which CA to trust.
        seconds: how long to wait for an answer.
    """

    def __init__(self, page: Page, context: ssl.SSLContext, seconds: float = 10):
        super().__init__(page.hostname, page.port, timeout=seconds, context=context)
        self.page, self.tls = page, context

    def connect(self) -> None:
        """Connect to the edge."""
        raw = socket.create_connection((self.page.address, self.page.port), timeout=self.timeout)
        self.sock = self.tls.wrap_socket(raw, server_hostname=self.page.hostname)


def get(page: Page, ca: Path, path: str = "/", seconds: float = 10) -> tuple[int, bytes]:
    """Ask for a path, and once more where the app sends a visitor to another of its own paths, such as a login.

    Returns:
        (status, body).
    """
    context = ssl.create_default_context(cafile=str(ca))
    status, body, where = _ask(Connection(page, context, seconds), path)
    if status in (301, 302, 303, 307, 308) and where.startswith("/"):
        status, body, _ = _ask(Connection(page, context, seconds), where)
    return status, body


def _ask(connection: Connection, path: str) -> tuple[int, bytes, str]:
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("Location", "")
    finally:
        connection.close()


def check(site: Path, within: float = 30) -> list[Page]:
    """Ask for every app's page, until it is served. What the app answers is its own affair: it may have no first page.

    Args:
        site: the site's folder.
        within: seconds that it may take: after a boot, the edge has to hear from the web hosts first.

    Raises:
        Refused: one is not served.
    """
    deadline = time.monotonic() + within
    return [_served(page, ca_file(site), deadline) for page in pages(site)]


def _served(page: Page, ca: Path, deadline: float) -> Page:
    """Return a page as it was served, or refuse it when it is not served in time."""
    while True:
        try:
            status, _ = get(page, ca)
            fault = f"answers {status}"
        except (OSError, http.client.HTTPException) as why:
            status, fault = 0, f"does not answer: {why}"
        if status and status not in NOT_SERVED:
            return replace(page, status=status)
        if time.monotonic() > deadline:
            raise Refused(f"{page.url} at {page.address} {fault}")
        time.sleep(0.3)


def fingerprint(certificate: Path) -> str:
    """Return a certificate's SHA-256 as browsers show it, to compare before it is trusted."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def summary(site: Path, served: list[Page], first_host: str) -> str:
    """Return what to open and what to type next."""
    lines = [""]
    for page in served:
        answer = "" if page.status == 200 else f"; the app answers {page.status} there"
        lines.append(f"  {page.url}  is served{answer}")
    hosts = " ".join(page.hostname for page in served)
    ca = ca_file(site)
    if served:
        page = served[0]
        lines += [
            "",
            f"  here:        curl --cacert {ca} --resolve {page.hostname}:{page.port}:{page.address} {page.url}",
            f"  a browser:   add this line to /etc/hosts:  {page.address} {hosts}",
            f"               and trust the lab's CA:       {ca}",
            f"               SHA-256 {fingerprint(ca)}",
        ]
    lines += [
        "",
        f"  look around: bin/lab status · bin/lab ssh {first_host} · bin/lab logs {first_host}",
        "  change it:   edit salt/ or the site, then  bin/lab apply --test  and  bin/lab apply",
        "  be rid:      bin/lab down  (keeps the disks) or  bin/lab destroy",
    ]
    return "\n".join(lines)
