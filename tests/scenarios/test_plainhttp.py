"""A host whose edge still speaks plain HTTP to nginx, as an older version made it, is applied while visitors ask."""

from __future__ import annotations

import re
import time

import pytest

from lab import served
from lab.apply import apply, explain
from lab.host import Host
from lab.lab import Lab
from lab.load import FEW, Load


def make_old(host: Host) -> None:
    """Take TLS between HAProxy and nginx away, and HAProxy's unit is another one than today's."""
    nginx, haproxy = host.root / "etc/nginx/nginx.conf", host.root / "etc/haproxy/haproxy.cfg"
    unit = host.root / "etc/systemd/system/haproxy.service.d/saltern.conf"
    text = re.sub(r"(listen [\d.]+:8080) ssl", r"\1", nginx.read_text())
    nginx.write_text(re.sub(r"if \(\$from_edge = 0\) \{\s*return 403;\s*\}", "", text))
    haproxy.write_text(re.sub(r" ssl verify required .*| verifyhost \S+", "", haproxy.read_text()))
    unit.write_text(unit.read_text().replace("LimitNOFILE=1048576", "LimitNOFILE=65536"))
    old = "rm -f /run/nginx-plain.log; systemctl daemon-reload; systemctl reload nginx; systemctl restart haproxy"
    assert host.execute(["sh", "-c", old], capture=True).returncode == 0


def without_tls(host: Host) -> str:
    """What nginx says to somebody on the host who asks without TLS, as HTTP's status."""
    command = "curl -s -o /dev/null -w '%{http_code}' -H 'Host: demo.saltern.test' http://127.0.0.1:8080/; true"
    return host.execute(["sh", "-c", command], capture=True).stdout


@pytest.mark.slow("bookworm")
def test_from_plain_http_to_tls_no_request_is_lost(lab: Lab, one: Host, record_property) -> None:
    converged = apply(one)
    assert converged.ok, explain(converged)
    assert without_tls(one) == "000"
    make_old(one)
    time.sleep(3)
    assert without_tls(one) == "200", "an older version is not played well"
    planned = apply(one, plan=True)
    load = Load(served.pages(lab.site)[0], served.ca_file(lab.site), dict(FEW))
    with load.running():
        time.sleep(2)
        began = time.monotonic()
        outcome = apply(one)
        record_property("seconds", round(time.monotonic() - began, 1))
        time.sleep(2)
    assert outcome.ok, explain(outcome)
    assert load.failures == [], load.failures[:5]
    assert len(load.answers) > 60, "too few requests to prove anything"
    assert outcome.changed == planned.changed and "nginx takes TLS alone" in planned.changed
    assert without_tls(one) == "000"
    settled = apply(one, plan=True)
    assert settled.ok and settled.changed == [], explain(settled)
    asked = one.execute(["sh", "-c", "ls /run/nginx-plain.log && wc -l < /run/nginx-plain.log"], capture=True).stdout
    assert int(asked.split()[-1]) < 60, "only health checks are written down"
    left = one.execute(["systemctl", "is-active", "saltern-edge-stand-in"], capture=True).stdout.strip()
    assert left in ("inactive", "unknown", "deactivating"), "it has no visitors any more"
