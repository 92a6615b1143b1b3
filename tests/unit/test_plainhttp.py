"""From plain HTTP between edge and web host to TLS: at no moment does one speak what the other does not take."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, FileSystemLoader

from saltern.edge import plainhttp as pure
from tests.unit.contracts import ROOT, load

OLD = "server {\n    listen 10.0.0.2:8000 default_server backlog=4096;\n}\nserver {\n    listen 10.0.0.2:8000;\n}\n"
BUILDER = "server {\n    listen 10.0.0.2:8843 ssl;\n}\nserver {\n    listen 80;\n}\n"
NEW = "server {\n    listen 10.0.0.2:8000 ssl default_server backlog=4096;\n}\n" + BUILDER
BOTH = NEW + "error_page 497 = @plain;\n"


@pytest.mark.parametrize(
    ("config", "alone", "quiet", "stays"),
    [
        ("", True, 0, False),
        (NEW, True, 0, False),  # an edge that asks without TLS gets nothing from a host that has come so far
        (NEW, False, 0, False),
        (BUILDER, False, 0, False),
        (OLD, True, 9999, True),
        (OLD, False, 9999, True),
        (OLD + BUILDER, False, 9999, True),
        (BOTH, True, 9999, True),  # an apply that was killed half-way
        (BOTH, False, 3, True),  # an old edge asks for the apps' health every 2 s
        (BOTH, False, 61, False),
    ],
)
def test_how_long_plain_http_is_taken(config: str, alone: bool, quiet: float, stays: bool) -> None:
    assert pure.is_to_stay(config, 8000, alone, quiet) is stays


@pytest.mark.parametrize(("edges", "age", "stays"), [(["a"], 99, True), (["b"], 3, True), (["a", "b"], 99, False)])
def test_the_host_is_asked(tmp_path: Path, edges: list[str], age: int, stays: bool) -> None:
    module: Any = load("_modules", "edge")
    module.NGINX, module.PLAIN_LOG = tmp_path / "nginx.conf", tmp_path / "plain.log"
    hosts = {name: {"roles": ["edge"] if name in edges else ["web"]} for name in ("a", "b")}
    assert module.takes_plain_http(8000, "a", hosts) is False, "a bare host"
    module.NGINX.write_text(BOTH)
    module.PLAIN_LOG.write_text("a line\n")
    os.utime(module.PLAIN_LOG, (time.time() - age,) * 2)
    assert module.takes_plain_http(8000, "a", hosts) is stays


def rendered(path: str, plain: bool, *others: str) -> dict[str, Any]:
    hosts = {name: {"roles": ["edge"]} for name in others} | {"a": {"roles": ["base", "web", "edge"]}}
    pillar = {"fleet": {"hosts": hosts}, "host": {"id": "a", **hosts["a"]}, "wiring": {"web": {"edges": ["127.0.0.1"]}}}
    pillar["web"] = {"port": 8000}
    environment = Environment(
        loader=FileSystemLoader(ROOT / "salt"), extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"]
    )
    environment.filters["json"] = environment.filters["tojson"]
    salt = {"edge.takes_plain_http": lambda *told: plain}
    return dict(yaml.safe_load(environment.get_template(path).render(pillar=pillar, salt=salt)))


def test_haproxy_shows_its_certificate_before_nginx_demands_it() -> None:
    """The order on a host with both roles: nginx takes both, HAProxy changes, nginx takes TLS alone."""
    assert "edge.after_plain_http" in rendered("edge/init.sls", plain=True)["include"]
    first = rendered("web/nginx.sls", plain=True)
    assert {"context": {"plain": True}} in [one for one in first["nginx.conf"]["file.managed"] if "context" in one]
    last = rendered("edge/after_plain_http.sls", plain=True)["nginx takes TLS alone"]
    needs = [need for entry in last["file.managed"] for need in entry.get("require", [])]
    assert {"daemon": "haproxy.service"} in needs and {"daemon": "nginx.service"} in needs
    assert {"context": {"plain": False}} in last["file.managed"]
    own = {key: entry[key] for entry in first["nginx.service"]["daemon.running"] for key in entry}
    again = {key: entry[key] for entry in last["daemon.running"] for key in entry}
    assert (again["inputs"], again["reload"]) == (own["inputs"], own["reload"])


def test_with_edges_elsewhere_no_apply_of_this_host_ends_it_by_itself() -> None:
    assert list(rendered("edge/after_plain_http.sls", True, "b")) == ["include"]


def test_who_has_come_so_far_has_none_of_it() -> None:
    assert "edge.after_plain_http" not in rendered("edge/init.sls", plain=False)["include"]
