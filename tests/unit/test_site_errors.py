"""One mistake in a good site, one line that says file, key, what is wrong and what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_site_good import good, load_written, pillar_of, problems_of, write_site

from saltern.site.accounts import free, persons
from saltern.site.compiled import host_pillar
from saltern.site.errors import SiteError
from saltern.site.load import load_site
from saltern.site.secrets import generate_secrets

APP_SECRETS = dict.fromkeys(("database_password", "owner_password"), "a-good-long-password")

Mutation = Callable[[dict[str, Any]], object]


def put(file: str, *path: str, value: Any) -> Mutation:
    """Return the mutation that sets one key."""

    def mutate(files: dict[str, Any]) -> None:
        target = files[file]
        for key in path[:-1]:
            target = target.setdefault(key, {})
        target[path[-1]] = value

    return mutate


def drop(file: str, *path: str) -> Mutation:
    """Return the mutation that takes one key, or a whole file, away."""

    def mutate(files: dict[str, Any]) -> None:
        target: Any = files
        for key in (file, *path)[:-1]:
            target = target[key]
        del target[(file, *path)[-1]]

    return mutate


def text(file: str, content: str) -> Mutation:
    """Return the mutation that writes a file as it is given."""
    return lambda files: files.update({file: content})


def replica(of: Any, host: str = "data2") -> Mutation:
    """Return the mutation that adds a host with role postgres as a replica."""
    address = f"10.0.1.{host[-1]}"
    entry = {"address": address, "roles": ["base", "postgres"], "replica_of": of}
    return put("fleet.yaml", "hosts", host, value=entry)


def admin(name: str) -> Mutation:
    """Return the mutation that makes a person's account."""
    return put("settings.yaml", "base", "admins", value={name: {"ssh_keys": ["ssh-ed25519 AAAA ann"]}})


def extra(name: str) -> Mutation:
    """Return the mutation that gives an app one more file, of a template that is there."""

    def mutate(files: dict[str, Any]) -> None:
        files["apps/x.jinja"] = "x"
        files["apps/web-shop.yaml"].setdefault("files", {})[name] = {"template": "x.jinja"}

    return mutate


FLEET, SHOP, BLOG, SETTINGS = "fleet.yaml", "apps/web-shop.yaml", "apps/blog.yaml", "settings.yaml"
# name of the mistake: (mutation, file, key, parts of the message)
MISTAKES: dict[str, tuple[Mutation, str, str, list[str]]] = {
    "fleet absent": (drop(FLEET), FLEET, "", ["does not exist"]),
    "fleet empty": (text(FLEET, "# nothing\n"), FLEET, "", ["is empty", "name, domain, hosts"]),
    "fleet is a list": (text(FLEET, "- a\n"), FLEET, "", ["not a mapping", "name, domain, hosts"]),
    "unknown key": (put(FLEET, "domian", value="x.test"), FLEET, "domian", ["unknown key", 'did you mean "domain"']),
    "missing key": (drop(FLEET, "domain"), FLEET, "domain", ["missing", "DNS name"]),
    "no hosts": (put(FLEET, "hosts", value={}), FLEET, "hosts", ["is empty"]),
    "hosts null": (put(FLEET, "hosts", value=None), FLEET, "hosts", ["empty (null)", "mapping"]),
    "host id": (
        put(FLEET, "hosts", "Web_9", value={"address": "10.0.0.9", "roles": ["base"]}),
        FLEET, "hosts.Web_9", ["not allowed", "DNS label"],
    ),
    "host called localhost": (
        put(FLEET, "hosts", "localhost", value={"address": "10.0.0.9", "roles": ["base"]}),
        FLEET, "hosts.localhost", ["not localhost"],
    ),
    "a migration without its app": (
        put(SHOP, "migrations", value={"reversible": ["0003_prices"]}),
        SHOP, "migrations.reversible.0", ["not allowed", "shop.0003_prices"],
    ),
    "unknown key of migrations": (
        put(SHOP, "migrations", value={"reversable": []}),
        SHOP, "migrations.reversable", ['did you mean "reversible"'],
    ),
    "unknown key of a host": (
        put(FLEET, "hosts", "web1", "adress", value="10.0.0.7"),
        FLEET, "hosts.web1.adress", ['did you mean "address"'],
    ),
    "no IPv4 address": (
        put(FLEET, "hosts", "web1", "address", value="10.0.0.256"),
        FLEET, "hosts.web1.address", ["not an IPv4 address", "10.77.0.11"],
    ),
    "IPv6 address": (
        put(FLEET, "hosts", "web1", "address", value="fe80::1"),
        FLEET, "hosts.web1.address", ["not an IPv4 address"],
    ),
    "loopback": (
        put(FLEET, "hosts", "web1", "address", value="127.0.0.1"),
        FLEET, "hosts.web1.address", ["other hosts cannot reach"],
    ),
    "two hosts, one address": (
        put(FLEET, "hosts", "web2", "address", value="10.0.0.2"),
        FLEET, "hosts.web2.address", ["10.0.0.2", "web1"],
    ),
    "unknown role": (
        put(FLEET, "hosts", "data1", "roles", value=["base", "postgress", "postgres", "redis", "builder"]),
        FLEET, "hosts.data1.roles.1", ['unknown role "postgress"', 'did you mean "postgres"?', "edge"],
    ),
    "role twice": (
        put(FLEET, "hosts", "web1", "roles", value=["base", "web", "web"]),
        FLEET, "hosts.web1.roles", ["named twice: web"],
    ),
    "roles as text": (
        put(FLEET, "hosts", "web1", "roles", value="web"),
        FLEET, "hosts.web1.roles", ["is text", "a list"],
    ),
    "no role base": (
        put(FLEET, "hosts", "web1", "roles", value=["web"]),
        FLEET, "hosts.web1.roles", ['role "base" is missing'],
    ),
    "no web host": (
        lambda files: [files[FLEET]["hosts"].pop(name) for name in ("web1", "web2")],
        FLEET, "hosts", ["no host has role web", "there are apps"],
    ),
    "no edge host": (drop(FLEET, "hosts", "front1"), FLEET, "hosts", ["no host has role edge"]),
    "no data host": (drop(FLEET, "hosts", "data1"), FLEET, "hosts", ["no host has role builder, postgres, redis"]),
    "two postgres hosts": (
        put(FLEET, "hosts", "web1", "roles", value=["base", "web", "postgres"]),
        FLEET, "hosts.data1.roles", ["role postgres", "web1, data1", "allowed: one host"],
    ),
    "a replica without role postgres": (
        put(FLEET, "hosts", "web1", "replica_of", value="data1"),
        FLEET, "hosts.web1.replica_of", ["no role postgres", "take this key out"],
    ),
    "a replica of an unknown host": (
        replica("dat1"), FLEET, "hosts.data2.replica_of", ['"dat1" is not in the fleet', 'did you mean "data1"'],
    ),
    "a replica of a host without databases": (
        replica("web1"), FLEET, "hosts.data2.replica_of", ["web1 has no role postgres"],
    ),
    "a replica of itself": (replica("data2"), FLEET, "hosts.data2.replica_of", ["its own replica"]),
    "a replica of a replica": (
        lambda files: [replica("data1")(files), replica("data2", "data3")(files)],
        FLEET, "hosts.data3.replica_of", ["data2 is a replica itself"],
    ),
    "replica_of as a list": (
        replica(["data1"]), FLEET, "hosts.data2.replica_of", ["a list", "DNS label"],
    ),
    "a further address that is another host's": (
        put(FLEET, "hosts", "web1", "other_addresses", value=["2a01:4f8::7", "10.0.0.3"]),
        FLEET, "hosts.web1.other_addresses.1", ["10.0.0.3 is the address of"],
    ),
    "a further address that is its own, spelt in another way": (
        put(FLEET, "hosts", "web1", "other_addresses", value=["2a01:4f8::7", "2a01:4f8:0::7"]),
        FLEET, "hosts.web1.other_addresses.1", ["is the address of web1 too"],
    ),
    "a further address of one link": (
        put(FLEET, "hosts", "web1", "other_addresses", value=["fe80::1"]),
        FLEET, "hosts.web1.other_addresses.0", ["cannot reach", "2a01:db8::7"],
    ),
    "packages from metadata": (
        put(SETTINGS, "builder", "fetch_from", value=["169.254.169.254"]),
        SETTINGS, "builder.fetch_from", ["metadata", "take it out"],
    ),
    "packages from a name": (
        put(SETTINGS, "builder", "fetch_from", value=["index.example"]),
        SETTINGS, "builder.fetch_from.0", ["192.0.2.0/24"],
    ),
    "a virtual address for one edge": (
        put(FLEET, "virtual_address", value="10.0.0.10"),
        FLEET, "virtual_address", ["there are 1", "give the role to two"],
    ),
    "a virtual address that a host has": (
        lambda files: [
            files[FLEET].update(virtual_address="10.0.0.2"), files[FLEET]["hosts"]["web2"]["roles"].append("edge"),
        ],
        FLEET, "virtual_address", ["10.0.0.2 is the address of web1"],
    ),
    "a virtual address that is none": (
        put(FLEET, "virtual_address", value="10.0.0.10/24"), FLEET, "virtual_address", ["not an IPv4 address"],
    ),
    "egress to a name": (
        put(SHOP, "egress", value=["api.example.org"]), SHOP, "egress.0.to", ["addresses, not names", "internet, or"],
    ),
    "egress to no address": (
        put(SHOP, "egress", value=["10.0.0.300"]), SHOP, "egress.0.to", ["not an address"],
    ),
    "egress to a network with bits beyond it": (
        put(SHOP, "egress", value=[{"to": "203.0.114.1/24"}]), SHOP, "egress.0.to", ["not a network"],
    ),
    "egress as another word": (put(SHOP, "egress", value="all"), SHOP, "egress", ["is text", "none, internet, or"]),
    "egress as a switch": (put(SHOP, "egress", value=False), SHOP, "egress", ["true/false", "none, internet, or"]),
    "egress empty": (put(SHOP, "egress", value=None), SHOP, "egress", ["empty (null)", "none, internet, or"]),
    "egress to metadata": (
        put(SHOP, "egress", value=[{"to": "169.254.169.254", "ports": [80]}]), SHOP, "egress.0.to", ["metadata"],
    ),
    "egress to metadata elsewhere": (
        put(SHOP, "egress", value=[{"to": "fd00:ec2::254", "ports": [80]}]), SHOP, "egress.0.to", ["metadata"],
    ),
    "egress to everything": (
        put(SHOP, "egress", value=["0.0.0.0/0"]), SHOP, "egress.0.to", ["169.254.0.0/16", "not the internet"],
    ),
    "egress to all of IPv6": (put(SHOP, "egress", value=["::/0"]), SHOP, "egress.0.to", ["not the internet"]),
    "egress to a reserved range": (
        put(SHOP, "egress", value=["198.18.0.1"]), SHOP, "egress.0.to", ["198.18.0.0/15", "not the internet"],
    ),
    "egress to IPv4 inside IPv6": (
        put(SHOP, "egress", value=["::ffff:10.0.5.7"]), SHOP, "egress.0.to", ["not the internet"],
    ),
    "egress by NAT64": (put(SHOP, "egress", value=["64:ff9b::/96"]), SHOP, "egress.0.to", ["not the internet"]),
    "egress to a private network without ports": (
        put(SHOP, "egress", value=["10.0.5.0/24"]), SHOP, "egress.0", ["10.0.5.0/24 is private", "which ports"],
    ),
    "egress with no port": (
        put(SHOP, "egress", value=[{"to": "internet", "ports": []}]), SHOP, "egress.0.ports", ["is empty", "65535"],
    ),
    "egress to port 0": (
        put(SHOP, "egress", value=[{"to": "internet", "ports": [0]}]), SHOP, "egress.0.ports.0", ["1 to 65535"],
    ),
    "egress to a port twice": (
        put(SHOP, "egress", value=[{"to": "internet", "ports": [25, 25]}]), SHOP, "egress.0.ports", ["named twice: 25"],
    ),
    "egress to too many ports": (
        put(SHOP, "egress", value=[{"to": "internet", "ports": list(range(1, 40))}]),
        SHOP, "egress.0.ports", ["at most 32"],
    ),
    "egress to too many": (
        put(SHOP, "egress", value=[f"8.8.{number}.0/24" for number in range(65)]), SHOP, "egress", ["at most 64"],
    ),
    "egress by another protocol": (
        put(SHOP, "egress", value=[{"to": "internet", "protocol": "icmp"}]), SHOP, "egress.0.protocol", ["tcp or udp"],
    ),
    "unknown key of egress": (
        put(SHOP, "egress", value=[{"to": "internet", "port": 25}]), SHOP, "egress.0.port", ['did you mean "ports"'],
    ),
    "egress with keys of its own": (
        put(SHOP, "egress", value={"to": "internet"}), SHOP, "egress", ["a mapping", "none, internet, or a list"],
    ),
    "egress twice": (
        put(SHOP, "egress", value=["internet", "8.8.8.0/24"]), SHOP, "egress", ["internet and 8.8.8.0/24 overlap"],
    ),
    "egress that overlaps": (
        put(SHOP, "egress", value=["8.8.0.0/16", {"to": "8.8.8.8", "ports": [53]}]),
        SHOP, "egress", ["8.8.0.0/16 and 8.8.8.8/32 overlap"],
    ),
    "egress to the fleet's database": (
        put(SHOP, "egress", value=[{"to": "10.0.0.4", "ports": [5433]}]),
        SHOP, "egress.0.to", ["10.0.0.4 is data1", "port 80, 443 of a host with role edge"],
    ),
    "egress to ssh of an edge": (
        put(SHOP, "egress", value=[{"to": "10.0.0.1", "ports": [22]}]), SHOP, "egress.0.to", ["10.0.0.1 is front1"],
    ),
    "egress to a daemon over loopback": (
        put(SHOP, "egress", value=[{"to": "127.0.0.1", "ports": [11211, 5433]}]),
        SHOP, "egress.0.to", ["5433 is postgres.port", "take the port out"],
    ),
    "number for text": (
        put(FLEET, "hosts", "web1", "purpose", value=1.10),
        FLEET, "hosts.web1.purpose", ["a number for YAML", "put it in quotes"],
    ),
    "yes for text": (
        text(FLEET, "name: yes\ndomain: x.test\nhosts: {a: {address: 10.0.0.1, roles: [base]}}\n"),
        FLEET, "name", ["true/false for YAML", "put it in quotes"],
    ),
    "date for text": (put(BLOG, "env", "SINCE", value="@"), BLOG, "env.SINCE", []),  # replaced below
    "app without host names": (drop(SHOP, "hostnames"), SHOP, "hostnames", ["missing", "a list, at least one"]),
    "app with no host name": (put(SHOP, "hostnames", value=[]), SHOP, "hostnames", ["is empty", "at least one"]),
    "host name with port": (
        put(SHOP, "hostnames", value=["shop.test:80"]), SHOP, "hostnames.0", ["not a DNS name", "without port"],
    ),
    "host name is an address": (
        put(SHOP, "hostnames", value=["10.0.0.1"]), SHOP, "hostnames.0", ["not a DNS name"],
    ),
    "host name in capitals": (
        put(SHOP, "hostnames", value=["Shop.test"]), SHOP, "hostnames.0", ["lower case"],
    ),
    "host name twice": (
        put(SHOP, "hostnames", value=["a.test", "a.test"]), SHOP, "hostnames", ["named twice: a.test"],
    ),
    "host name of another app": (
        put(SHOP, "hostnames", value=["blog.test"]), SHOP, "hostnames", ["blog.test", "app blog"],
    ),
    "app name": (
        lambda files: files.update({"apps/My_App.yaml": {"source": {"directory": "shop"}, "hostnames": ["x.test"]}}),
        "apps/My_App.yaml", "", ["DNS label that begins with a letter", "My_App"],
    ),
    "app file called yml": (
        lambda files: files.update({"apps/x.yml": {"source": {"directory": "shop"}, "hostnames": ["x.test"]}}),
        "apps/x.yml", "", ["is not read", "x.yaml"],
    ),
    "settings file called yml": (
        lambda files: files.update({"setings.yml": {}}), "setings.yml", "", ["unknown file", '"settings.yaml"'],
    ),
    "unknown key of an app": (
        put(SHOP, "hostname", value="a"), SHOP, "hostname", ["unknown key", '"hostnames"'],
    ),
    "python as a number": (put(SHOP, "python", value=3.13), SHOP, "python", ["in quotes"]),
    "python with a patch level": (put(SHOP, "python", value="3.13.5"), SHOP, "python", ["3.13"]),
    "no time for the gate": (put(SHOP, "health_seconds", value=0), SHOP, "health_seconds", ["1"]),
    "unknown key of a source": (
        put(SHOP, "source", "dir", value="x"), SHOP, "source.dir", ["unknown key", "directory"],
    ),
    "no source": (drop(SHOP, "source"), SHOP, "source", ["missing", "directory"]),
    "source not there": (
        put(SHOP, "source", "directory", value="shopp"), SHOP, "source.directory", ["no directory", "shopp"],
    ),
    "database of another app": (
        put(SHOP, "database", value="blog"), SHOP, "database", ["blog is the database of app blog"],
    ),
    "user of another app": (
        put(SHOP, "user", value="app-blog"), SHOP, "user", ["app-blog is the account of app blog"],
    ),
    "user is an admin": (
        lambda files: (
            put(SETTINGS, "base", "admins", value={"ann": {"ssh_keys": ["ssh-ed25519 AAAA ann"]}})(files),
            put(SHOP, "user", value="ann")(files),
        )[0],
        SHOP, "user", ["ann is a person's account"],
    ),
    "system account": (put(SHOP, "user", value="root"), SHOP, "user", ['"root" is an account of the system']),
    "system database": (put(SHOP, "database", value="postgres"), SHOP, "database", ["database of Postgres itself"]),
    "no session for an app": (
        put(SHOP, "limits", value={"connections": 1}), SHOP, "limits.connections", ["2", "5000"],
    ),
    "a statement for ever": (
        put(SHOP, "limits", value={"statement_timeout_seconds": -1}), SHOP, "limits.statement_timeout_seconds", ["0"],
    ),
    "a lock for ever": (
        put(SHOP, "limits", value={"lock_timeout_seconds": "long"}), SHOP, "limits.lock_timeout_seconds", ["0", "3600"],
    ),
    "an idle transaction for ever": (
        put(SHOP, "limits", value={"idle_in_transaction_seconds": 1e9}), SHOP, "limits.idle_in_transaction_seconds",
        ["86400"],
    ),
    "all of the disk": (put(SHOP, "limits", value={"temp_file_mb": 0}), SHOP, "limits.temp_file_mb", ["1048576"]),
    "all of the disk for a migration": (
        put(SHOP, "migrations", value={"temp_file_mb": -1}), SHOP, "migrations.temp_file_mb", ["1048576"],
    ),
    "an extra role of an app": (
        put(SETTINGS, "postgres", "extra_roles", value=["blog__2"]), SETTINGS, "postgres.extra_roles.0",
        ["blog__2 is a role of the database of app blog"],
    ),
    "an extra role of Postgres": (
        put(SETTINGS, "postgres", "extra_roles", value=["pg_monitor"]), SETTINGS, "postgres.extra_roles.0",
        ["pg_monitor", "a role of Postgres or of Saltern"],
    ),
    "a role of Saltern": (
        put(SHOP, "database", value="saltern_reader"), SHOP, "database", ["could be a role of Postgres or of Saltern"],
    ),
    "database with a dash": (put(SHOP, "database", value="a-b"), SHOP, "database", ["plain SQL name"]),
    "true for a number": (put(SHOP, "workers", value=True), SHOP, "workers", ["true/false", "whole number, 1 to 64"]),
    "text for a number": (put(SHOP, "workers", value="2"), SHOP, "workers", ["is text", "quotes away"]),
    "half a worker": (put(SHOP, "workers", value=1.5), SHOP, "workers", ["a number for YAML", "whole number"]),
    "too many workers": (put(SHOP, "workers", value=65), SHOP, "workers", ["1 to 64"]),
    "path without slash": (put(SHOP, "health_path", value="healthz"), SHOP, "health_path", ["begins with /"]),
    "static_url without end": (put(SHOP, "static_url", value="/static"), SHOP, "static_url", ["ends with /"]),
    "static_url is all": (put(SHOP, "static_url", value="/"), SHOP, "static_url", ["begins and ends"]),
    "path in nginx's words": (
        put(SHOP, "static_url", value="/a; root /;/"), SHOP, "static_url", ["not allowed"],
    ),
    "media inside static": (
        put(SHOP, "media_url", value="/static/media/"), SHOP, "media_url", ["/static/media/", "overlap"],
    ),
    "lock outside": (put(SHOP, "lock", value="../x.txt"), SHOP, "lock", ["leaves the source directory"]),
    "two sources": (
        put(SHOP, "source", "requirement", value="x==1"), SHOP, "source",
        ["directory and requirement are given", "exactly one of directory, git, requirement"],
    ),
    "empty source": (put(SHOP, "source", value={}), SHOP, "source", ["nothing is given", "exactly one of"]),
    "git without a revision": (
        put(SHOP, "source", value={"git": "https://git.test/x"}), SHOP, "source", ["git and revision go together"],
    ),
    "a password in a URL": (
        put(SHOP, "source", value={"git": "https://me:secret@git.test/x", "revision": "v1"}),
        SHOP, "source.git", ["URL without a password"],
    ),
    "an option as a revision": (
        put(SHOP, "source", value={"git": "https://git.test/x", "revision": "--upload-pack=x"}),
        SHOP, "source.revision", ["a commit (40 digits), a tag or a branch"],
    ),
    "a requirement without a version": (
        put(SHOP, "source", value={"requirement": "bugsink"}), SHOP, "source.requirement", ["exact version"],
    ),
    "an option as a requirement": (
        put(SHOP, "requirements", value=["--index-url=x"]), SHOP, "requirements.0", ["a package, with extras"],
    ),
    "a requirement by URL": (
        put(SHOP, "requirements", value=["x @ https://x.test/x.whl"]), SHOP, "requirements.0", ["a package"],
    ),
    "an option as a Debian package": (
        put(SHOP, "packages", value={"run": ["-o=x"]}), SHOP, "packages.run.0", ["the name of a Debian package"],
    ),
    "manage with arguments": (
        put(SHOP, "manage", value="python manage.py migrate"), SHOP, "manage", ["python -m django"],
    ),
    "unknown placeholder": (
        put(SHOP, "env", value={"DB": "{databas_url}"}), SHOP, "env.DB",
        ["unknown placeholder {databas_url}", 'did you mean "database_url"', "{{databas_url}} gives"],
    ),
    "file outside the release": (
        lambda files: (
            put(SHOP, "files", value={"../x": {"template": "x.jinja"}})(files),
            text("apps/x.jinja", "x")(files),
        ),
        SHOP, "files.../x", ["leaves the source directory"],
    ),
    "error pages outside the site": (
        put(SHOP, "error_pages", value="../secrets"), SHOP, "error_pages", ["a folder below the site's apps/"],
    ),
    "error pages that are not there": (
        put(SHOP, "error_pages", value="shop-pages"), "apps/shop-pages", "", ["the folder does not exist"],
    ),
    "a page of no error": (
        lambda files: (put(SHOP, "error_pages", value="pages")(files), text("apps/pages/index.html", "x")(files)),
        "apps/pages/index.html", "", ["is not a page", "403.html, 404.html"],
    ),
    "template not there": (
        put(SHOP, "files", value={"x.py": {"template": "shop/x.jinja"}}),
        "apps/shop/x.jinja", "", ["the file does not exist"],
    ),
    "template with an unknown name": (
        lambda files: (
            put(SHOP, "files", value={"x.py": {"template": "x.jinja"}})(files),
            text("apps/x.jinja", "a\n{{ secret_kee }}\n")(files),
        ),
        "apps/x.jinja", "", ["unknown name secret_kee", 'did you mean "secret_key"'],
    ),
    "template that is no Jinja": (
        lambda files: (
            put(SHOP, "files", value={"x.py": {"template": "x.jinja"}})(files),
            text("apps/x.jinja", "a\n{{ secret_key \n")(files),
        ),
        "apps/x.jinja", "", ["no valid Jinja"],
    ),
    "wsgi without object": (put(SHOP, "wsgi", value="shop.wsgi"), SHOP, "wsgi", ["module:object"]),
    "env value is a number": (put(BLOG, "env", "A", value=1), BLOG, "env.A", ["put it in quotes", "text on one line"]),
    "env value of two lines": (put(BLOG, "env", "A", value="a\nB=c"), BLOG, "env.A", ["text on one line"]),
    "env name": (put(BLOG, "env", "A-B", value="x"), BLOG, "env.A-B", ["variable's name"]),
    "env that Saltern sets": (
        put(BLOG, "env", "DATABASE_URL", value="x"), BLOG, "env", ["DATABASE_URL", "set by Saltern"],
    ),
    "settings of an unknown role": (
        put(SETTINGS, "reddis", value={}), SETTINGS, "reddis", ["unknown role", 'did you mean "redis"'],
    ),
    "settings are a list": (text(SETTINGS, "- a\n"), SETTINGS, "", ["not a mapping", "postgres"]),
    "settings of a role are a list": (
        put(SETTINGS, "redis", value=[]), SETTINGS, "redis", ["not a mapping", "cache_maxmemory_mb"],
    ),
    "unknown setting": (
        put(SETTINGS, "redis", "broker_maxmemory", value=1),
        SETTINGS, "redis.broker_maxmemory", ['did you mean "broker_maxmemory_mb"'],
    ),
    "the one server of before": (
        put(SETTINGS, "redis", "port", value=6379), SETTINGS, "redis.port", ["unknown key", "broker_port"],
    ),
    "a broker with too little memory": (
        put(SETTINGS, "redis", "broker_maxmemory_mb", value=1), SETTINGS, "redis.broker_maxmemory_mb", ["16 to"],
    ),
    "a cache with too little memory": (
        put(SETTINGS, "redis", "cache_maxmemory_mb", value=15), SETTINGS, "redis.cache_maxmemory_mb", ["16 to"],
    ),
    "too few clients of Redis": (
        put(SETTINGS, "redis", "max_clients", value=31), SETTINGS, "redis.max_clients", ["32 to 60000"],
    ),
    "broker and cache on a port": (
        put(SETTINGS, "redis", "cache_port", value=6380),
        SETTINGS, "redis.cache_port", ["6380 is redis.broker_port too"],
    ),
    "a cache that is no yes or no": (put(BLOG, "cache", value="on please"), BLOG, "cache", ["true or false"]),
    "a broker that is no yes or no": (put(BLOG, "broker", value=3), BLOG, "broker", ["true or false"]),
    "a broadcast with a pattern": (
        put(BLOG, "broker_broadcasts", value=["news[a]"]), BLOG, "broker_broadcasts.0", ["an exchange, with"],
    ),
    "the cache's placeholder without a cache": (
        put(SHOP, "env", value={"A": "{cache_url}"}), SHOP, "env.A", ["has no cache", "`cache: true`"],
    ),
    "the broker's placeholder without a broker": (
        put(SHOP, "env", value={"A": "x-{broker_key_prefix}"}), SHOP, "env.A", ["has no broker", "`broker: true`"],
    ),
    "no memory to build": (
        put(SETTINGS, "builder", "memory_max_mb", value=64), SETTINGS, "builder.memory_max_mb", ["256 to"],
    ),
    "no disk to build": (
        put(SETTINGS, "builder", "disk_max_mb", value=0), SETTINGS, "builder.disk_max_mb", ["256 to"],
    ),
    "no time to build": (
        put(SETTINGS, "builder", "build_seconds", value=1), SETTINGS, "builder.build_seconds", ["60 to 86400"],
    ),
    "a size as text": (
        put(SETTINGS, "builder", "source_max_mb", value="1G"), SETTINGS, "builder.source_max_mb", ["1 to 65536"],
    ),
    "true for a port": (put(SETTINGS, "web", "port", value=True), SETTINGS, "web.port", ["true/false", "1 to 32767"]),
    "port too high": (put(SETTINGS, "web", "port", value=65536), SETTINGS, "web.port", ["1 to 32767"]),
    "a port that is anybody's": (
        put(SETTINGS, "redis", "cache_port", value=32768), SETTINGS, "redis.cache_port", ["1 to 32767"],
    ),
    "a port of ssh": (put(SETTINGS, "web", "port", value=22), SETTINGS, "web.port", ["22 is the port of ssh"]),
    "the edge's port is ssh's": (
        put(SETTINGS, "edge", "http_port", value=22), SETTINGS, "edge.http_port", ["22 is the port of ssh"],
    ),
    "a port of a name server": (
        put(SETTINGS, "postgres", "port", value=53), SETTINGS, "postgres.port", ["53 is the port of the host's name"],
    ),
    "a port of the master": (
        lambda files: [
            put(FLEET, "hosts", "front1", "roles", value=["base", "edge", "master"])(files),
            put(SETTINGS, "edge", "https_port", value=4505)(files),
        ],
        SETTINGS, "edge.https_port", ["4505 is master's jobs too", "take another port"],
    ),
    "ports of daemons for anybody": (
        put(SETTINGS, "base", "sysctl", value={"net.ipv4.ip_unprivileged_port_start": 1024}),
        SETTINGS, "base.sysctl.net.ipv4.ip_unprivileged_port_start", ["builder.port is 8843", "up to 32768"],
    ),
    "more ports than ours for root alone": (
        put(SETTINGS, "base", "sysctl", value={"net.ipv4.ip_unprivileged_port_start": 40000}),
        SETTINGS, "base.sysctl.net.ipv4.ip_unprivileged_port_start", ["at most 32768"],
    ),
    "outgoing connections among the ports of daemons": (
        put(SETTINGS, "base", "sysctl", value={"net.ipv4.ip_local_port_range": "20000 60000"}),
        SETTINGS, "base.sysctl.net.ipv4.ip_local_port_range", ["(32768), which the kernel refuses", "lower that"],
    ),
    "root as a person": (admin("root"), SETTINGS, "base.admins", ['"root": an account of the system']),
    "a daemon as a person": (admin("postgres"), SETTINGS, "base.admins", ['"postgres": an account of the system']),
    "an account of nginx as a person": (admin("www-data"), SETTINGS, "base.admins", ["no person's"]),
    "a workshop as a person": (admin("build-blog"), SETTINGS, "base.admins", ["of Saltern or of an app"]),
    "an app as a person": (admin("app-old"), SETTINGS, "base.admins", ["of Saltern or of an app"]),
    "an account of systemd as a person": (admin("systemd-network"), SETTINGS, "base.admins", ["no person's"]),
    "app as an account of a daemon of Debian": (
        put(SHOP, "user", value="gnats"), SHOP, "user", ['"gnats" is an account of the system'],
    ),
    "a folder of files that hides the health": (
        put(SHOP, "static_url", value="/healthz/"), SHOP, "static_url", ["/healthz/ holds health_path (/healthz)"],
    ),
    "uploads that hide the health": (
        lambda files: files[SHOP].update(media_url="/up/", health_path="/up/health"),
        SHOP, "media_url", ["/up/ holds health_path (/up/health)"],
    ),
    "a folder of files that hides the version": (
        put(SHOP, "static_url", value="/-/"), SHOP, "static_url", ["/-/ holds version_path (/-/version)"],
    ),
    "files above the root": (put(SHOP, "static_url", value="/../"), SHOP, "static_url", ["without . or .."]),
    "uploads above the root": (put(SHOP, "media_url", value="/a/../b/"), SHOP, "media_url", ["without . or .."]),
    "files at a dot": (put(SHOP, "static_url", value="/./"), SHOP, "static_url", ["without . or .."]),
    "a health above the root": (put(SHOP, "health_path", value="/../x"), SHOP, "health_path", ["or two /"]),
    "two slashes in a path": (put(SHOP, "version_path", value="//version"), SHOP, "version_path", ["or two /"]),
    "a file that is the source itself": (extra("."), SHOP, "files..", ["a path inside", "without ."]),
    "a file of two lines": (extra("a\nb"), SHOP, "files.a\\nb", ["of printable characters"]),
    "a file at an absolute path": (extra("/etc/passwd"), SHOP, "files./etc/passwd", ["leaves the source directory"]),
    "a file of two names": (extra("a/./b"), SHOP, "files.a/./b", ["without ."]),
    "a file that ends with a slash": (extra("a/"), SHOP, "files.a/", ["or two /"]),
    "a file in a file": (
        lambda files: (extra("a/b")(files), extra("a")(files)), SHOP, "files.a", ["a/b would be in it"],
    ),
    "a host's own name for an app": (
        put(SHOP, "hostnames", value=["web1.shop.test"]), SHOP, "hostnames", ["is the name of host web1"],
    ),
    "a host's short name for an app": (
        put(SHOP, "hostnames", value=["data1"]), SHOP, "hostnames", ["is the name of host data1"],
    ),
    "no room for an upload": (
        lambda files: (put(SETTINGS, "web", "body_max_mb", value=64)(files), put(BLOG, "tmp_max_mb", value=63)(files)),
        BLOG, "tmp_max_mb", ["web.body_max_mb (64)", "or lower that"],
    ),
    "a command without memory": (
        put(SHOP, "command_memory_max_mb", value=0), SHOP, "command_memory_max_mb", ["64 to 1048576"],
    ),
    "no room for temporary files": (put(SHOP, "tmp_max_mb", value=0), SHOP, "tmp_max_mb", ["16 to 1048576"]),
    "no line for the log": (put(SHOP, "log_lines_max", value=0), SHOP, "log_lines_max", ["100 to 1000000"]),
    "localhost for an app": (
        put(SHOP, "hostnames", value=["localhost"]), SHOP, "hostnames.0", ["everybody's name for his own machine"],
    ),
    "a name below localhost": (
        put(SHOP, "hostnames", value=["shop.localhost"]), SHOP, "hostnames.0", ["his own machine"],
    ),
    "an address in another spelling": (
        put(SHOP, "hostnames", value=["0x7f000001"]), SHOP, "hostnames.0", ["not a DNS name"],
    ),
    "a connection for nobody": (
        put(SETTINGS, "edge", "connections_per_address", value=0), SETTINGS, "edge.connections_per_address", ["1 to"],
    ),
    "limit as text": (
        put(SETTINGS, "edge", "requests_per_second", value="100/s"), SETTINGS, "edge.requests_per_second", ["1 to"],
    ),
    "no limit at all": (
        put(SETTINGS, "edge", "requests_at_once", value=None), SETTINGS, "edge.requests_at_once", ["1 to 100000"],
    ),
    "busy limit of nothing": (
        put(SETTINGS, "edge", "requests_per_second_busy", value=0), SETTINGS, "edge.requests_per_second_busy", ["1 to"],
    ),
    "negative connections a second": (
        put(SETTINGS, "edge", "new_connections_per_second", value=-1),
        SETTINGS, "edge.new_connections_per_second", ["1 to"],
    ),
    "files as a fraction": (
        put(SETTINGS, "edge", "files_per_second", value=0.5), SETTINGS, "edge.files_per_second", ["a whole number"],
    ),
    "files at once": (put(SETTINGS, "edge", "files_at_once", value=0), SETTINGS, "edge.files_at_once", ["1 to"]),
    "bodies at once": (put(SETTINGS, "edge", "bodies_at_once", value=0), SETTINGS, "edge.bodies_at_once", ["1 to"]),
    "too many connections": (
        put(SETTINGS, "edge", "max_connections", value=500_000), SETTINGS, "edge.max_connections", ["400000", "null"],
    ),
    "edge's memory": (
        put(SETTINGS, "edge", "memory_share", value=0), SETTINGS, "edge.memory_share", ["0.01 to 0.9"],
    ),
    "unlimited without a network": (
        put(SETTINGS, "edge", "unlimited_from", value=["office"]), SETTINGS, "edge.unlimited_from.0", ["192.0.2.0/24"],
    ),
    "refused for ever": (
        put(SETTINGS, "edge", "refuse_seconds", value=86400), SETTINGS, "edge.refuse_seconds", ["1 to 3600"],
    ),
    "headers for ever": (
        put(SETTINGS, "edge", "header_seconds", value=301), SETTINGS, "edge.header_seconds", ["1 to 300"],
    ),
    "bodies for ever": (put(SETTINGS, "edge", "body_seconds", value=0), SETTINGS, "edge.body_seconds", ["1 to 86400"]),
    "answers cut short": (
        put(SETTINGS, "edge", "answer_seconds", value=29), SETTINGS, "edge.answer_seconds", ["30 to 604800"],
    ),
    "silence for ever": (
        put(SETTINGS, "edge", "silence_seconds", value=0), SETTINGS, "edge.silence_seconds", ["1 to 3600"],
    ),
    "no thread of HAProxy": (put(SETTINGS, "edge", "threads", value=0), SETTINGS, "edge.threads", ["1 to 64"]),
    "idle too long": (put(SETTINGS, "edge", "idle_seconds", value=301), SETTINGS, "edge.idle_seconds", ["1 to 300"]),
    "no body at all": (put(SETTINGS, "web", "body_max_mb", value=0), SETTINGS, "web.body_max_mb", ["1 to 10240"]),
    "spool as text": (put(SETTINGS, "web", "spool_mb", value="4G"), SETTINGS, "web.spool_mb", ["1 to 1048576"]),
    "a body larger than the spool": (
        put(SETTINGS, "web", "spool_mb", value=9), SETTINGS, "web.spool_mb", ["body_max_mb (10)", "at least"],
    ),
    "share too high": (
        put(SETTINGS, "postgres", "memory_share", value=1.5), SETTINGS, "postgres.memory_share", ["0.05 to 0.9"],
    ),
    "too little memory for a session": (
        put(SETTINGS, "postgres", "session_memory_mb", value=16),
        SETTINGS, "postgres.session_memory_mb", ["64", "or null"],
    ),
    "memory as text": (
        put(SETTINGS, "postgres", "memory_mb", value="1G"), SETTINGS, "postgres.memory_mb", ["or null"],
    ),
    "setting that Saltern owns": (
        put(SETTINGS, "postgres", "settings", value={"port": 1}),
        SETTINGS, "postgres.settings", ["port (use postgres.port)"],
    ),
    "a setting that runs a program": (
        put(SETTINGS, "postgres", "settings", value={"restore_command": "sh x"}),
        SETTINGS, "postgres.settings", ["restore_command (the server runs no programs)"],
    ),
    "a library of nobody": (
        put(SETTINGS, "postgres", "settings", value={"shared_preload_libraries": "evil"}),
        SETTINGS, "postgres.settings", ["only auto_explain, pg_prewarm, pg_stat_statements"],
    ),
    "time zone": (put(SETTINGS, "base", "timezone", value="Mars/Base"), SETTINGS, "base.timezone", ["Europe/Berlin"]),
    "time zone as a path": (
        put(SETTINGS, "base", "timezone", value="../../etc/passwd"), SETTINGS, "base.timezone", ["unknown time zone"],
    ),
    "admin without key": (
        put(SETTINGS, "base", "admins", value={"ann": {"ssh_keys": []}}),
        SETTINGS, "base.admins.ann.ssh_keys", ["is empty", "at least one"],
    ),
    "forwarding as a word": (
        put(SETTINGS, "base", "admins", value={"ann": {"ssh_keys": ["ssh-ed25519 AAAA ann"], "forwarding": "local"}}),
        SETTINGS, "base.admins.ann.forwarding", ["true or false"],
    ),
    "app as an installer": (put(SHOP, "user", value="pkg-a"), SHOP, "user", ["could be an account of Saltern"]),
    "app in the group of the passwords": (
        put(SHOP, "user", value="shadow"), SHOP, "user", ['"shadow" is an account of the system'],
    ),
    "app as apt": (put(SHOP, "user", value="_apt"), SHOP, "user", ["could be an account of Saltern"]),
    "a database that is no role's name": (
        put(SHOP, "database", value="none"), SHOP, "database", ['"none" is a database of Postgres itself'],
    ),
    "everybody as an extra role": (
        put(SETTINGS, "postgres", "extra_roles", value=["public"]),
        SETTINGS, "postgres.extra_roles.0", ["of Postgres or of Saltern"],
    ),
    "app as the master": (put(SHOP, "user", value="salt"), SHOP, "user", ['"salt" is an account of the system']),
    "no public key": (
        put(SETTINGS, "base", "admins", value={"ann": {"ssh_keys": ["AAAA"]}}),
        SETTINGS, "base.admins.ann.ssh_keys.0", ["ssh-ed25519"],
    ),
    "true for a sysctl": (
        put(SETTINGS, "base", "sysctl", value={"vm.x": True}), SETTINGS, "base.sysctl.vm.x", ["true/false"],
    ),
    "a window's day": (
        put(SETTINGS, "base", "updates", value={"days": ["mon", "tues"]}),
        SETTINGS, "base.updates.days.1", ["mon, tue"],
    ),
    "a day twice": (
        put(SETTINGS, "base", "updates", value={"days": ["mon", "mon"]}),
        SETTINGS, "base.updates.days", ["named twice: mon"],
    ),
    "no day for updates": (
        put(SETTINGS, "base", "updates", value={"days": []}), SETTINGS, "base.updates.days", ["empty"],
    ),
    "a window's time without quotes": (
        text(SETTINGS, "base: {updates: {start: 3:00}}\n"), SETTINGS, "base.updates.start", ['"03:00"'],
    ),
    "a window's time of no day": (
        put(SETTINGS, "base", "updates", value={"start": "24:00"}), SETTINGS, "base.updates.start", ['"03:00"'],
    ),
    "a window too short": (
        put(SETTINGS, "base", "updates", value={"minutes": 19}), SETTINGS, "base.updates.minutes", ["20"],
    ),
    "restarts as a word": (
        put(SETTINGS, "base", "updates", value={"restart": "daemons"}),
        SETTINGS, "base.updates.restart", ["true or false"],
    ),
    "unknown key of updates": (
        put(SETTINGS, "base", "updates", value={"form": "03:00"}), SETTINGS, "base.updates.form", ["unknown key"],
    ),
    "more windows than a day has": (
        lambda files: [
            put(SETTINGS, "base", "updates", value={"minutes": 240})(files),
            *(
                put(FLEET, "hosts", f"work{n}", value={"address": f"10.0.2.{n}", "roles": ["base", "worker"]})(files)
                for n in range(1, 8)
            ),
        ],
        SETTINGS, "base.updates.minutes", ["7 hosts that share a role", "at most 205"],
    ),
    "a time server with a space": (
        put(SETTINGS, "base", "ntp", value=["a b"]), SETTINGS, "base.ntp.0", ["a name or an address"],
    ),
    "idle for ever": (put(SETTINGS, "base", "idle_minutes", value=0), SETTINGS, "base.idle_minutes", ["1"]),
    "older clients of ssh by name": (
        put(SETTINGS, "base", "ssh_older_clients", value=["paramiko"]),
        SETTINGS, "base.ssh_older_clients", ["true or false"],
    ),
    "two daemons on a port": (
        put(SETTINGS, "redis", "broker_port", value=5433), SETTINGS, "redis.broker_port", ["5433 is postgres.port too"],
    ),
    "no YAML": (text(SHOP, "source: {directory: shop}\nhostnames: [a\n"), SHOP, "", ["not valid YAML", "column"]),
    "tab in YAML": (text(SHOP, "source:\n\tdirectory: shop\n"), SHOP, "", ["not valid YAML"]),
    "Python in YAML": (text(SHOP, "source: !!python/name:os.system\n"), SHOP, "", ["not valid YAML"]),
    "key twice": (
        text(SHOP, "source: {directory: shop}\nhostnames: [a.test]\nhostnames: [b.test]\n"),
        SHOP, "hostnames", ["stands twice", "line 2"],
    ),
}  # fmt: skip
MISTAKES["date for text"] = (
    text(BLOG, "source: {directory: shop}\nhostnames: [b.test]\nenv: {SINCE: 2026-01-02}\n"),
    BLOG, "env.SINCE", ["a date for YAML", "put it in quotes"],
)  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_one_mistake_is_one_line_with_place_and_remedy(tmp_path: Path, name: str) -> None:
    mutate, file, key, parts = MISTAKES[name]
    files = good()
    mutate(files)
    found = problems_of(tmp_path, files)
    assert len(found) == 1, found
    place, *rest = found[0].split(": ")
    assert place.partition(":")[0] == str(tmp_path / "site" / file)
    if key:
        assert rest[0] == key
    assert [part for part in parts if part not in found[0]] == [], found[0]
    assert "\n" not in found[0]


def test_every_error_of_all_files_is_told_at_once(tmp_path: Path) -> None:
    files = good()
    expected = []
    # Mistakes in different places, so that none of them hides or repairs another.
    for name in ("unknown key of a host", "two hosts, one address", "true for a number", "host name in capitals",
                 "env name", "settings of an unknown role", "port too high", "time zone"):  # fmt: skip
        mutate, file, key, _ = MISTAKES[name]
        mutate(files)
        expected.append((file, key))
    files["apps/third.yaml"] = "a: ["
    found = problems_of(tmp_path, files)
    for file, key in [*expected, ("apps/third.yaml", "")]:
        assert any(line.startswith(str(tmp_path / "site" / file)) and f" {key}" in line for line in found), (file, key)
    assert len(found) == len(expected) + 1, found


def test_a_broken_host_is_not_taken_for_an_absent_role(tmp_path: Path) -> None:
    files = good()
    files["fleet.yaml"]["hosts"]["front1"]["address"] = "nowhere"
    assert len(problems_of(tmp_path, files)) == 1


def test_lines_are_counted_as_editors_do(tmp_path: Path) -> None:
    files = good()
    files["settings.yaml"] = "# first\npostgres:\n  port: 5432\n  prot: 1\n"
    assert problems_of(tmp_path, files)[0].startswith(f"{tmp_path}/site/settings.yaml:4: postgres.prot: ")


def test_the_text_has_a_head_and_one_line_for_each_error(tmp_path: Path) -> None:
    files = good()
    files["settings.yaml"] = {"web": {"port": 0}, "edge": {"http_port": 0}}
    with pytest.raises(SiteError) as raised:
        load_written(tmp_path, files)
    head, *lines = str(raised.value).splitlines()
    assert head == "The site has 2 errors; nothing was changed:"
    assert sorted(line.split(": ")[1] for line in lines) == ["edge.http_port", "web.port"]


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="site directory does not exist"):
        load_site(tmp_path / "none")


def test_an_unknown_minion_id_names_the_known_ones(tmp_path: Path) -> None:
    site = load_written(tmp_path, good())
    with pytest.raises(SiteError) as raised:
        host_pillar(site, "web3", None)
    message = str(raised.value)
    assert '"web3" is not in the fleet' in message
    assert "front1, web1, web2, data1" in message
    assert "`id:`" in message


def test_missing_secrets_name_the_command(tmp_path: Path) -> None:
    site = load_written(tmp_path, good())
    with pytest.raises(SiteError, match=r"web1\.sls: secrets are missing; make them: salt-call site\.generate_secrets"):
        host_pillar(site, "web1", None)


@pytest.mark.parametrize(
    ("host", "path", "value", "wanted"),
    [
        ("web1", ["apps", "blog", "redis_password"], None, "secrets.apps.blog.redis_password: missing"),
        ("web1", ["apps", "blog", "secret_key"], None, "secrets.apps.blog.secret_key: missing"),
        ("web1", ["apps", "blog"], None, "secrets.apps.blog: missing"),
        ("web1", ["tls"], None, "secrets.tls: missing"),
        ("web1", ["tls", "key"], "none", "secrets.tls.key: no PEM"),
        ("web1", ["apps", "blog", "redis_password"], "short", "blog.redis_password: too weak"),
        ("web1", ["apps", "blog", "redis_password"], 12345678901234567890, "blog.redis_password: is a number"),
        ("web1", ["apps", "web-shop", "redis_password"], "a-good-long-password", "web-shop.redis_password: the host"),
        ("front1", ["edge"], None, "secrets.edge: missing"),
        ("data1", ["apps", "blog", "secret_key"], "a-good-long-password", "blog.secret_key: the host's roles"),
        ("data1", ["apps", "blog", "env"], {"A": "x"}, "blog.env: the host's roles have no need"),
        ("web1", ["apps", "gone"], APP_SECRETS, "apps.gone: the host's roles"),
        ("web1", ["apps", "blog", "owner_password"], None, "blog.owner_password: "),
        ("web1", ["redis_pasword"], "a-good-long-password", "secrets.redis_pasword: unknown key"),
    ],
)  # fmt: skip
def test_a_hosts_secrets_are_exactly_what_its_roles_need(
    tmp_path: Path, host: str, path: list[str], value: Any, wanted: str
) -> None:
    site = load_written(tmp_path, good())
    secrets = pillar_of(site, host)["secrets"]
    target = secrets
    for key in path[:-1]:
        target = target[key]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    with pytest.raises(SiteError) as raised:
        host_pillar(site, host, secrets)
    assert wanted in str(raised.value)
    assert "salt-call site.generate_secrets" in str(raised.value)
    assert "a-good-long-password" not in str(raised.value)


@pytest.mark.parametrize(
    "name, database",
    [("blog-owner", None), ("wiki", "blog_owner"), ("blog--2", None), ("wiki", "blog_owner__2")],
)
def test_a_database_may_not_be_called_as_a_role_of_another(tmp_path: Path, name: str, database: str | None) -> None:
    files = good()
    files[f"apps/{name}.yaml"] = {"source": {"directory": "shop"}, "hostnames": ["other.test"], "database": database}
    (problem,) = problems_of(tmp_path, files)
    assert f"{database or name.replace('-', '_')} is a role of the database of app blog" in str(problem)


@pytest.mark.parametrize(
    "name", ["postgres", "template1", "public", "none", "pg-monitor", "saltern-reader", "saltern-replication"]
)
def test_an_apps_name_does_not_make_it_a_role_of_postgres_itself(tmp_path: Path, name: str) -> None:
    files = good()
    files[f"apps/{name}.yaml"] = {"source": {"directory": "shop"}, "hostnames": ["other.test"]}
    (problem,) = problems_of(tmp_path, files)
    assert f'database: follows from the app\'s name, and "{name.replace("-", "_")}"' in str(problem)
    files[f"apps/{name}.yaml"]["database"] = "others"
    assert load_written(tmp_path, files).apps[name].database == "others"


@pytest.mark.parametrize("name", ["0003_prices", "shop/0003", "shop.0003 prices", 5])
def test_an_allowed_migration_has_its_apps_label(tmp_path: Path, name: Any) -> None:
    files = good()
    files["apps/blog.yaml"]["migrations"] = {"allow_unsafe": [name]}
    (problem,) = problems_of(tmp_path, files)
    assert "migrations.allow_unsafe" in str(problem) and "shop.0003_prices" in str(problem)


CANARY = "canary-Zs9vq3"


def _leaves(data: Any) -> list[tuple[Any, ...]]:
    """Return the paths of all scalars."""
    if isinstance(data, dict):
        return [(key, *rest) for key, value in data.items() for rest in _leaves(value)]
    return [()]


def test_no_value_of_a_secret_is_in_a_message(tmp_path: Path) -> None:
    """Every secret in turn is made wrong in each way that keeps the canary in it."""
    site = load_written(tmp_path, good())
    whole = pillar_of(site, "web1")["secrets"]
    tried = 0
    for path in _leaves(whole):
        for value in (CANARY, [CANARY * 9], {CANARY: CANARY}, f"{CANARY} with blanks\nand lines"):
            broken = pillar_of(site, "web1")["secrets"]
            target = broken
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = value
            with pytest.raises(SiteError) as raised:
                host_pillar(site, "web1", broken)
            assert CANARY not in str(raised.value).replace(f"secrets.{'.'.join(path)}.{CANARY}", ""), path
            assert CANARY not in repr(raised.value.__context__), path
            tried += 1
    assert tried >= 7 * 4


def test_no_value_of_an_environment_or_of_broken_yaml_is_in_a_message(tmp_path: Path) -> None:
    files = good()
    files["apps/blog.yaml"]["env"] = {"KEY": f"{CANARY}\n", "OTHER": [CANARY]}
    files["apps/web-shop.yaml"] = f"env: {{KEY: {CANARY}\n  x: {CANARY} [ {CANARY}: 'y\n"
    found = "\n".join(problems_of(tmp_path, files))
    assert "env.KEY" in found
    assert "not valid YAML" in found
    assert CANARY not in found


def test_a_broken_shared_file_is_told_without_its_values(tmp_path: Path) -> None:
    site = load_written(tmp_path, good())
    write_site(tmp_path, {"secrets/shared.yaml": {"redis_password": [CANARY], "apps": {}, "extra": CANARY}})
    with pytest.raises(SiteError) as raised:
        generate_secrets(site)
    assert "shared.yaml" in str(raised.value)
    assert "unknown key" in str(raised.value)
    assert CANARY not in str(raised.value)


JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "\0",
    "../..",
    [],
    [None],
    [[]],
    {},
    {"x": {}},
    {1: 2},
    "a" * 300,
    "a\nb\x1b",
]


def _places(data: Any) -> list[tuple[Any, ...]]:
    """Return the paths of all values, list and mappings too."""
    if isinstance(data, dict):
        return [(), *((key, *rest) for key, value in data.items() for rest in _places(value))]
    return [()]


def test_no_junk_in_any_place_ends_in_anything_but_lines(tmp_path: Path) -> None:
    """A site is data of people: whatever stands in it, the answer is a site or a list of errors."""
    refused = 0
    spots = [(name, place) for name, data in good().items() for place in _places(data)]
    for number, (name, place) in enumerate(spots):
        for kind, junk in enumerate(JUNK):
            files = good()
            if place:
                put(name, *place, value=junk)(files)
            else:
                files[name] = junk if isinstance(junk, dict) else f"{junk!r}\n"
            try:
                load_written(tmp_path / f"{number}-{kind}", files)
            except SiteError as error:
                refused += 1
                assert len(str(error).splitlines()) == len(error.problems) + 1
                assert all(line.isprintable() for line in str(error).splitlines()), str(error)
    assert refused > 300


def test_every_account_of_a_debian_is_one_of_the_system() -> None:
    """What base-passwd brings; what else is on a host, tests/hosts/test_base.py asks there."""
    files = [*Path("/usr/share/base-passwd").glob("*.master")]
    names = {line.partition(":")[0] for file in files for line in file.read_text().splitlines()}
    assert {"root", "www-data", "shadow"} <= names
    for name in sorted(names):
        with pytest.raises(ValueError, match="take"):
            free(name)
        with pytest.raises(ValueError, match="take another name"):
            persons({name: None})
