"""The headers that a client may not send on: one list, and both proxies are made from it."""

from __future__ import annotations

import re

import pytest

from saltern.edge import clientheaders as headers
from tests.unit.contracts import ROOT
from tests.unit.test_edge import haproxy_configuration


def goes(name: str) -> bool:
    """Whether HAProxy takes a header away, as it compares."""
    ways = {"beg": str.startswith, "sub": str.__contains__, "str": str.__eq__}
    return any(ways[rule["match"]](name.lower(), rule["name"]) for rule in headers.at_the_edge())


@pytest.mark.parametrize("name", headers.examples())
def test_the_edge_takes_each_away_however_it_is_spelt(name: str) -> None:
    for spelt in (name, name.upper(), name.lower(), name.replace("-", "_")):
        assert goes(spelt), spelt


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Cookie",
        "Authorization",
        "Origin",
        "Referer",
        "User-Agent",
        "Accept",
        "Content-Type",
        "Content-Length",
        "X-Requested-With",
        "X-CSRFToken",
        "If-None-Match",
        "Range",
        "Sec-Fetch-Site",
        "Upgrade",
        "Connection",
        "Transfer-Encoding",
        "traceparent",
        "From",
        "X-Api-Key",
        "X-Auth-Token",
    ],
)
def test_what_a_client_may_say_stays(name: str) -> None:
    assert not goes(name)


@pytest.mark.parametrize(
    "name",
    [
        "X-Auth-User",
        "X-Auth-Groups",
        "X-Authentik-Username",
        "X-Pomerium-Claim-Email",
        "Tailscale-User-Login",
        "X-Consumer-Username",
        "X-Credential-Identifier",
        "OIDC-Claim-Sub",
        "Shib-Session-ID",
        "CloudFront-Viewer-Address",
        "WL-Proxy-Client-IP",
        "X-Vercel-Forwarded-For",
        "X-Nf-Client-Connection-IP",
        "DO-Connecting-IP",
        "Incap-Client-IP",
    ],
)
def test_what_the_worlds_gateways_say_of_a_visitor_is_taken_away(name: str) -> None:
    assert goes(name)
    assert name in headers.by_nginx()


def test_nginx_knows_by_name_what_the_edge_knows_by_family() -> None:
    by_nginx = {*headers.by_nginx(), *headers.OURS}
    for family in headers.FAMILIES:
        assert any(name.startswith(family) for name in by_nginx), f"{family}: no member in MEMBERS"
    assert all(goes(name) for name in by_nginx)
    assert {*headers.MEMBERS} & {*headers.NAMES} == set()
    template = (ROOT / "salt/web/files/nginx.conf.jinja").read_text()
    assert "{%- for name in salt['edge.client_headers']('nginx') %}\n    proxy_set_header {{ name }} \"\";" in template
    written = {*re.findall(r"proxy_set_header ([A-Z][\w-]+) ", template)} - {"Host"}
    assert written == {*headers.OURS}, "each of ours is set by nginx"


def test_the_edge_sets_ours_after_it_has_taken_the_clients_away() -> None:
    text = haproxy_configuration({}, [], [])
    last_taken = text.rindex("http-request del-header")
    for name in headers.OURS:
        assert text.index(f"http-request set-header {name} ") > last_taken
    assert re.findall(r"http-request del-header (\S+) -m", text) == [rule["name"] for rule in headers.at_the_edge()]
