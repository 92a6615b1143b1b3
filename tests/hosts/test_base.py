"""Every host: who may come in, and what can be read."""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import asked_once, salt_call, ssh_argv, ssh_says, within
from cryptography import x509

from saltern.build.workshops import build_user
from saltern.site.accounts import persons
from saltern.site.apps import App
from saltern.site.fleet import Fleet
from saltern.site.links import SERVICES, SSH_PORT, called_by, open_ports
from saltern.site.relations import address_seen
from saltern.site.roles.base import Admin
from saltern.site.site import Site
from saltern.site.wired.base import window
from saltern.version import version

pytestmark = pytest.mark.role("base")
BACK_WITHIN = 10  # seconds; the promise for every daemon


def test_it_knows_its_name_and_its_fleet(host, fleet: Fleet) -> None:
    assert host.check_output("hostname") == host.fleet_id
    for name, entry in fleet.hosts.items():
        for wanted in (name, f"{name}.{fleet.domain}"):
            assert entry.address in host.check_output(f"getent ahostsv4 {wanted}")


def test_it_tells_which_saltern_applied_it(host) -> None:
    told = host.file("/etc/saltern/version")
    assert (told.user, told.mode) == ("root", 0o600), (
        "what runs here, and so which holes it has, is no business of apps"
    )
    assert told.content_string == f"{version()}\n", "applied by another version than this repository's: apply anew"


def test_a_password_opens_nothing(host, request: pytest.FixtureRequest) -> None:
    """Asked of the daemon by the protocol: which ways in does it offer?"""
    options = ["-o", "PreferredAuthentications=none", "-l", "stranger"]
    asked = [*ssh_argv(request.config, *options), host.fleet_id, "true"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20).stderr
    assert "Permission denied (publickey)." in said, said


FORWARDING = """allowagentforwarding no
allowstreamlocalforwarding no
allowtcpforwarding no
disableforwarding yes
gatewayports no
permittunnel no
permituserenvironment no
permituserrc no
x11forwarding no"""


@pytest.fixture(scope="session")
def admins(site: Site) -> dict[str, Admin]:
    """People's accounts by name."""
    return site.settings.base.admins


def accounts(host) -> list[list[str]]:
    return [line.split(":") for line in host.check_output("getent passwd").splitlines()]


def test_no_account_of_the_host_may_be_named_as_a_person_or_as_an_apps(host, site: Site) -> None:
    """Whatever a package or a state of ours has made: a site that names it is refused (saltern/site/accounts.py)."""
    ours = {app.user for app in site.apps.values()}
    services = [name for name, _, uid, *_ in accounts(host) if not 1000 <= int(uid) < 60000 and name not in ours]
    assert "root" in services
    for name in services:
        with pytest.raises(ValueError, match="take another name"):
            persons({name: None})


def test_only_admins_and_root_are_let_in_and_nobody_forwards_unasked(host, admins: dict[str, Admin]) -> None:
    """As sshd itself sees each account of the host, other files of sshd_config.d and their Match blocks included."""
    names = [name for name, *_ in accounts(host)]
    asked = "; ".join(
        f"echo = {name}; sshd -T -C user={name},host=x,addr=192.0.2.1,laddr=192.0.2.2,lport=22" for name in names
    )
    for answer in host.check_output(asked).split("= ")[1:]:
        name, *lines = answer.splitlines()
        assert [line for line in lines if line.startswith("allowusers")] == [
            f"allowusers {one}" for one in ["root", *sorted(admins)]
        ], name
        assert "authorizedkeysfile /etc/ssh/authorized_keys.d/%u /root/.ssh/authorized_keys" in lines, name
        assert {"authorizedkeyscommand none", "trustedusercakeys none", "hostbasedauthentication no"} <= set(lines), (
            name
        )
        if not (name in admins and admins[name].forwarding):
            assert set(FORWARDING.splitlines()) <= set(lines), name
    for folder in ("/etc/ssh", "/etc/ssh/sshd_config.d", "/etc/ssh/authorized_keys.d", "/root", "/root/.ssh"):
        assert host.check_output(f"find {folder} -maxdepth 0 '(' -not -uid 0 -o -perm /022 ')'") == "", folder


@pytest.mark.disturbs
def test_a_key_in_somebodys_home_opens_nothing(
    host, admins: dict[str, Admin], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Each account below which a key can lie at all gets one, and is knocked at with it: those of services too."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    knock = ssh_argv(request.config, "-o", "IdentitiesOnly=yes", "-i", str(key), "-N")
    host.check_output("useradd --create-home --shell /bin/bash stranger")
    try:
        homes = {name: home for name, _, uid, _, _, home, _ in accounts(host) if uid != "0" and name not in admins}
        homes = {name: home for name, home in homes.items() if host.run(f"test -d {home}").rc == 0 and len(home) > 8}
        assert "stranger" in homes
        # What used to be an app's home.
        homes |= {one: f"/var/lib/apps/{one[4:]}" for one, *_ in accounts(host) if one.startswith("app-")}
        for name, home in homes.items():
            put = f"test -d {home}/.ssh || (install -d -o {name} -m 700 {home}/.ssh; touch {home}/.ssh/made)"
            host.check_output(
                f"{put}; echo {shlex.quote(public)} > {home}/.ssh/authorized_keys; chown {name} {home}/.ssh/*"
            )
        try:
            for name in homes:
                asked = [*knock, "-l", name, host.fleet_id]
                done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20)
                assert done.returncode == 255 and "Permission denied (publickey)" in done.stderr, (name, done)
        finally:
            for home in homes.values():
                host.check_output(f"rm -f {home}/.ssh/authorized_keys; ! test -e {home}/.ssh/made || rm -r {home}/.ssh")
    finally:
        host.check_output("userdel --remove stranger")


def test_no_way_leads_through_a_login(host, admins: dict[str, Admin], request: pytest.FixtureRequest) -> None:
    """Root itself gets no tunnel to a port of the host, to a socket file, nor a port that listens there for it."""
    user = ssh_says(request.config, host.fleet_id)["user"]
    if user in admins and admins[user].forwarding:
        pytest.skip(f"ssh comes as {user}, who may forward")
    base = ssh_argv(request.config, "-o", "ExitOnForwardFailure=yes")
    asked = [*base, "-W", "127.0.0.1:22", host.fleet_id]
    through = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20, stdin=subprocess.DEVNULL)
    assert through.returncode != 0 and "forwarding failed" in through.stderr, through
    for back in ("-R47001:127.0.0.1:22", "-R/run/back.sock:127.0.0.1:22"):
        asked = [*base, back, host.fleet_id, "true"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20)
        assert done.returncode != 0, back


def test_accounts_of_services_have_no_way_out_of_their_units(host, site: Site, admins: dict[str, Admin]) -> None:
    """No home that they write to, no shell, and neither cron, at nor systemd runs anything for them."""
    ours = {app.user for app in site.apps.values()}
    for name, _, _, _, _, home, shell in accounts(host):
        if name not in ours and not name.startswith(("app-", "build-")):
            continue
        assert shell == "/usr/sbin/nologin", name
        assert host.run(f"setpriv --reuid={name} --clear-groups test -w {home}").rc != 0, f"{name} can write to {home}"
        for place in (f"/var/lib/systemd/linger/{name}", f"/var/spool/cron/crontabs/{name}"):
            assert not host.file(place).exists, place
    people = ["root", *sorted(admins)]
    for file in ("/etc/cron.allow", "/etc/at.allow"):
        assert host.check_output(f"cat {file}").split() == people, file


def test_sudo_rules_are_valid(host) -> None:
    assert host.run("visudo -c").rc == 0


def test_the_journal_is_limited_and_kept(host) -> None:
    usage = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    assert "SystemMaxUse=" in "\n".join(line for line in usage.splitlines() if not line.startswith("#"))
    assert host.run("journalctl --disk-usage").rc == 0


def test_the_time_zone_is_the_one_that_was_set(host, site: Site) -> None:
    """In winter and in summer, as who has no TZ sees them."""
    days = " ".join(f"date -d '2026-{month}-15 12:00 UTC' '+%F %T %z %Z';" for month in ("01", "04", "07", "10"))
    assert host.check_output(days) == host.check_output(f"export TZ={site.settings.base.timezone}; {days}")
    assert host.file(f"/usr/share/zoneinfo/{site.settings.base.timezone}").exists, "else TZ means UTC"


def test_nothing_failed_to_start(host) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


def test_no_key_or_secret_is_readable_by_everyone(host) -> None:
    """A user with no rights looks at all that the platform wrote."""
    folders = "/etc /srv/apps /var/lib/saltern /var/lib/apps /opt/saltern /run /var/log /var/cache/salt"
    grep = "grep -rIslE 'PRIVATE KEY-----$|^requirepass|DATABASE_URL=.*:.*@' --exclude-dir=venv --exclude-dir=salt-*"
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    assert host.check_output(f"{nobody} {grep} {folders} || true") == ""
    everything = host.check_output("grep -rIslE 'PRIVATE KEY-----$' /etc")
    assert "/etc/saltern/tls/host.key" in everything, "the search finds nothing, so it proves nothing"


# Connects to many ports at once, and prints those that answered: {address: [ports]}.
SCAN = """
import asyncio, json, sys
async def main(addresses, ports):
    limit, found = asyncio.Semaphore(200), {address: [] for address in addresses}
    async def knock(address, port):
        async with limit:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 3)
            except OSError:
                return
            except asyncio.TimeoutError:
                return
            found[address].append(port)
            writer.close()
    await asyncio.gather(*(knock(address, port) for address in addresses for port in ports))
    print(json.dumps({address: sorted(ports) for address, ports in found.items()}))
asyncio.run(main(*json.load(sys.stdin)))
"""


@pytest.fixture(scope="session")
def ports_in_use(site: Site, request: pytest.FixtureRequest) -> list[int]:
    """What to knock at: every port on which some host of the fleet listens or shall listen, and all below 1024."""
    found = {*range(1, 1024), *(service.port(site.settings) for service in SERVICES)}
    only = request.config.getoption("only") or site.fleet.hosts
    asked = [asked_once(request.config, name) for name in only]
    for other in (one for one in asked if not isinstance(one, str)):  # who is not reached is red by itself
        listening = other.check_output("cat /proc/net/tcp /proc/net/tcp6").splitlines()
        found |= {int(line.split()[1].rpartition(":")[2], 16) for line in listening if " 0A " in line}
    return sorted(found)


def test_each_other_host_is_open_where_the_links_say_and_nowhere_else(
    host, site: Site, ports_in_use: list[int]
) -> None:
    others = {name: entry.address for name, entry in site.fleet.hosts.items() if name != host.fleet_id}
    asked = json.dumps([list(others.values()), ports_in_use])
    answer = json.loads(host.check_output(f"echo '{asked}' | python3 -c '{SCAN}'"))
    for name, address in others.items():
        wanted = {p["port"] for p in open_ports(site, name) if within(host.addr_of_fleet, p["sources"])}
        assert set(answer[address]) == wanted, f"{name}, seen from {host.fleet_id}"


def test_from_outside_the_fleet_only_what_is_for_anyone_is_open(
    host, from_here: str, site: Site, ports_in_use: list[int]
) -> None:
    """Seen from where the tests run. Its address is the one that the host sees, be it a host of the fleet or not."""
    asked = json.dumps([[from_here], ports_in_use])
    done = subprocess.run(["python3", "-c", SCAN], input=asked, capture_output=True, text=True, check=True, timeout=60)
    wanted = {port["port"] for port in open_ports(site, host.fleet_id) if within(host.sees_us_as, port["sources"])}
    assert set(json.loads(done.stdout)[from_here]) == wanted, f"seen from {host.sees_us_as}"


# Prints how each connection ended: {"address port": "open", "refused" or "late"}. What has no route is refused too.
CALL = """
import asyncio, json, sys
async def main(addresses, ports, closed):
    pairs = [(address, port) for address in addresses for port in ports] + [(address, 80) for address in closed]
    limit, found = asyncio.Semaphore(200), {}
    async def call(address, port):
        async with limit:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 3)
                writer.close()
                found[f"{address} {port}"] = "open"
            except asyncio.TimeoutError:
                found[f"{address} {port}"] = "late"
            except OSError:
                found[f"{address} {port}"] = "refused"
    await asyncio.gather(*(call(*pair) for pair in pairs))
    print(json.dumps(found))
asyncio.run(main(*json.load(sys.stdin)))
"""
# One of each kind that no app reaches by default: metadata, private, link-local, shared, reserved, and the forms of
# IPv6 that hold an IPv4 address.
CLOSED = (
    "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "10.0.0.1", "172.16.0.1", "192.168.1.1",
    "100.64.0.1", "198.18.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "0.0.0.0", "127.1.2.3", "224.0.0.1",
    "240.0.0.1", "255.255.255.255", "::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
    "fd00:ec2::254", "fe80::1", "fc00::1", "ff02::1", "2001:db8::1", "100::1",
)  # fmt: skip


def linked(site: Site, host: str, app: App) -> set[str]:
    """Where an app's own code gets to by the links of the fleet, as "address port"."""
    called = called_by(site, host, app)
    return {f"{address_seen(site, host, server)} {service.port(site.settings)}" for server, service in called}


def opened(app: App, pair: str) -> bool:
    """Whether the app's file opens it besides; of the internet these tests ask nothing."""
    address, port = pair.split()
    return any(
        ipaddress.ip_address(address) in one.network and (one.ports is None or int(port) in one.ports)
        for one in app.egress
        if one.network is not None and one.protocol != "udp"
    )


def test_each_app_calls_what_is_declared_for_it_and_nothing_else(host, site: Site, ports_in_use: list[int]) -> None:
    """As the app's account, to all that listens in the fleet, over loopback too; and to what is nobody's business."""
    if host.fleet_id not in site.fleet.running_apps:
        assert "chain calls_" not in host.run("nft list table inet saltern").stdout
        return
    shared = [site.fleet.virtual_address] if site.fleet.virtual_address else []
    addresses = ["127.0.0.1", *shared, *(entry.address for entry in site.fleet.hosts.values())]
    for name, app in site.apps.items():
        asked = json.dumps([addresses, ports_in_use, [one for one in CLOSED if not opened(app, f"{one} 80")]])
        become = f"setpriv --reuid={app.user} --regid={app.user} --clear-groups"
        answer = json.loads(host.check_output(f"echo '{asked}' | {become} python3 -c '{CALL}'"))
        links = linked(site, host.fleet_id, app)
        assert sorted(pair for pair in links if answer[pair] != "open") == [], f"{name} does not reach what it needs"
        strange = {pair: end for pair, end in answer.items() if pair not in links and not opened(app, pair)}
        assert sorted(pair for pair, end in strange.items() if end == "open") == [], f"{name} reaches too much"
        assert sorted(pair for pair, end in strange.items() if end == "late") == [], "refused by a timeout, not at once"


def test_updates_come_in_this_hosts_window_and_at_no_other_time(host, site: Site) -> None:
    wanted = window(site, host.fleet_id)
    begins = json.loads(host.check_output("systemctl list-timers --all --output=json 'apt-daily*'"))
    assert {entry["unit"] for entry in begins if entry["next"]} == {"apt-daily-upgrade.timer"}
    shown = host.check_output(
        "systemctl show apt-daily-upgrade.timer -p TimersCalendar -p Persistent -p RandomizedDelayUSec"
    )
    assert f"OnCalendar={wanted} ;" in shown and "Persistent=no" in shown and "RandomizedDelayUSec=0" in shown
    assert 'APT::Periodic::Enable "0"' in host.check_output("apt-config dump APT::Periodic")


def test_what_the_window_does_is_not_debians_own(host) -> None:
    """systemd has read the drop-in: our commands are what it would start, and the time is bounded."""
    shown = host.check_output(
        "systemctl show apt-daily-upgrade.service -p ExecStart -p TimeoutStartUSec -p NeedDaemonReload"
    )
    assert "unattended-upgrade" in shown and "needrestart" in shown and "apt.systemd.daily" not in shown
    assert "TimeoutStartUSec=infinity" not in shown and "NeedDaemonReload=no" in shown


def test_security_updates_would_be_taken_and_nothing_else(host) -> None:
    """Asked of unattended-upgrade itself, without the network and without doing anything."""
    said = host.check_output("unattended-upgrade --dry-run --debug 2>&1 | grep -i 'allowed origins' | tail -1")
    assert "label=Debian-Security" in said and "label=Debian," not in said and not said.endswith("label=Debian")
    assert "l=Debian-Security" in host.check_output("apt-cache policy"), "no source of apt has security updates"


NEEDRESTART = (
    "our %nrconf; our $nrconf = \\%nrconf; do q(/etc/needrestart/needrestart.conf); "
    "for my $unit (@ARGV) { my $kept = grep { $unit =~ $_ && !$nrconf{override_rc}{$_} } keys %{$nrconf{override_rc}}; "
    "print $unit, $kept ? q( kept) : q( restarted), chr(10) } print qq(mode $nrconf{restart} $nrconf{interpscan}\\n)"
)


def test_restarts_leave_releases_and_salt_alone(host, apps: dict[str, App]) -> None:
    """needrestart's own configuration, read as it reads it."""
    kept = [f"app-{app}@1.service" for app in apps] + ["salt-minion.service"]
    kept += [f"app-{app}-{name}@1.service" for app, about in apps.items() for name in (*about.processes, *about.timers)]
    restarted = ["nginx.service", "redis-server.service"]
    said = host.check_output(f"perl -e '{NEEDRESTART}' {' '.join([*kept, *restarted])}").splitlines()
    assert said == [*(f"{unit} kept" for unit in kept), *(f"{unit} restarted" for unit in restarted), "mode l 0"]


def in_container(host) -> bool:
    return host.run("systemd-detect-virt --container --quiet").rc == 0


def test_certificates_are_short_lived_and_renew_themselves(host) -> None:
    files = host.check_output(
        "ls /etc/saltern/tls/host.crt /etc/postgresql/tls/host.crt /etc/redis/tls/host.crt "
        "/etc/haproxy/tls/edge.pem 2>/dev/null; true"
    ).split()
    for file in files:
        cert = x509.load_pem_x509_certificate(host.check_output(f"openssl x509 -in {file}").encode())
        if "Saltern" not in str(cert.issuer):
            continue  # a team's own
        assert cert.not_valid_after_utc - cert.not_valid_before_utc <= timedelta(days=90), file
        assert cert.not_valid_after_utc - datetime.now(UTC) > timedelta(days=21), f"{file}: nobody has renewed it"
    shown = host.check_output("systemctl show saltern-certificates.timer -p ActiveState -p UnitFileState -p Persistent")
    assert set(shown.split()) == {"ActiveState=active", "UnitFileState=enabled", "Persistent=yes"}


def test_the_clock_is_in_step(host) -> None:
    """Against the clock of the machine that tests; in a container it is the same one."""
    before = time.time()
    there = float(host.check_output("date +%s.%N"))
    assert before - 2 <= there <= time.time() + 2
    if not in_container(host):
        assert host.check_output("timedatectl show -p NTPSynchronized --value") == "yes"


def test_kernel_settings_are_what_the_kernel_has(host, site: Site) -> None:
    """Each one, unless the host may not change it, which its file then says."""
    written = host.check_output("cat /etc/sysctl.d/60-saltern.conf")
    told = dict(line.split(" = ", 1) for line in written.splitlines() if " = " in line)
    refused = [line.split()[-1].rstrip(".") for line in written.splitlines() if "may not change" in line]
    wanted = {key: value for key, value in site.settings.base.sysctl.items() if value is not None}
    assert wanted.keys() == {*told, *refused}
    has = host.check_output("sysctl -e " + " ".join(told)).splitlines()
    assert {line.partition(" = ")[0]: line.partition(" = ")[2].split() for line in has} == {
        key: value.split() for key, value in told.items()
    }
    if not in_container(host):
        assert [key for key in refused if host.file("/proc/sys/" + key.replace(".", "/")).exists] == []


def test_a_login_has_a_narrow_umask_and_leaves_no_core(host) -> None:
    assert host.check_output("umask; ulimit -Hc").split() == ["0027", "0"]
    assert host.check_output("bash -lc 'ulimit -c; echo $TMOUT'").split()[0] == "0"
    assert int(host.check_output("bash -lc 'echo $TMOUT'")) > 0


def test_an_apply_from_a_login_does_not_have_its_umask(host) -> None:
    """Folders that a sandbox's user must pass through would be closed to him; a minion's daemon has systemd's own."""
    if "minion" not in host.roles:
        done = salt_call(host, "cmd.run umask", before="umask 027")
        assert json.loads(done.stdout) == {"local": "0022"}, done.stderr


def test_nothing_is_run_from_shared_memory(host) -> None:
    script = "cp /bin/true /dev/shm/t; chmod 755 /dev/shm/t; /dev/shm/t; code=$?; rm /dev/shm/t; echo $code"
    assert host.check_output(script) == "126"


GOOD = "Correct-horse-7-battery"
PASSWORDS = f"""
useradd --no-create-home t-password || exit 1
trap 'faillock --user t-password --reset; userdel t-password' EXIT
set() {{ echo "t-password:$1" | chpasswd >/dev/null 2>&1; echo "set $1 $?"; }}
nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
log_in() {{ echo "$1" | $nobody su t-password -c true 2>/dev/null; echo "$1 $?"; }}
set secret12; set {GOOD}
getent shadow t-password | cut -d: -f2 | cut -d'$' -f2,3
log_in {GOOD}; for n in 1 2 3; do log_in wrong; done; log_in {GOOD}
"""


@pytest.mark.disturbs
def test_a_password_must_be_a_good_one_and_three_wrong_ones_lock_the_account(host) -> None:
    """An account of its own is given one, and somebody else tries to become it."""
    said = host.check_output(PASSWORDS).splitlines()
    assert said == [
        "set secret12 1",
        f"set {GOOD} 0",
        "6$rounds=65536",
        f"{GOOD} 0",
        "wrong 1",
        "wrong 1",
        "wrong 1",
        f"{GOOD} 1",
    ]


@pytest.mark.disturbs
def test_a_key_lets_in_whatever_the_age_of_a_password(host, request: pytest.FixtureRequest) -> None:
    """BP-028 wants a year for root's, and useradd gives one to everybody: accounts without a password age too."""
    if not host.is_root:
        pytest.skip("ssh comes as somebody else than root, whose key this machine need not have")
    assert host.check_output("getent shadow root").split(":")[4] == "365"
    host.check_output("chage -d 0 root && systemd-run --quiet --on-active=10s chage -d -1 root")
    try:
        fresh = [*ssh_argv(request.config), host.fleet_id, "id -un"]
        done = subprocess.run(fresh, capture_output=True, text=True, check=False, timeout=30)
    finally:
        host.check_output("chage -d -1 root")
    assert (done.returncode, done.stdout) == (0, "root\n"), done.stderr


def test_packages_files_are_what_debian_shipped(host) -> None:
    changed = host.run("dpkg --verify").stdout.splitlines()
    assert [line for line in changed if " c " not in line] == []


def test_apparmor_is_on_where_the_kernel_has_it(host) -> None:
    if in_container(host):
        assert host.run("systemctl is-active apparmor.service").rc != 0
        return
    enabled = host.file("/sys/module/apparmor/parameters/enabled")
    if enabled.exists and enabled.content_string.strip() == "Y":
        assert host.check_output("systemctl is-active apparmor.service") == "active"


def test_who_fetches_packages_reaches_no_daemon_of_the_fleet_and_no_metadata(host, site: Site) -> None:
    """An index may be anywhere, but a lock may also name any address."""
    users = [build_user(app) for app in site.apps] if "builder" in host.roles else []
    ports = sorted({service.port(site.settings) for service in SERVICES} | {SSH_PORT})
    addresses = ["127.0.0.1", *(entry.address for entry in site.fleet.hosts.values())]
    asked = json.dumps([addresses, ports, ["169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"]])
    for user in users:
        become = f"setpriv --reuid={user} --regid={user} --clear-groups"
        answer = json.loads(host.check_output(f"echo '{asked}' | {become} python3 -c '{CALL}'"))
        assert set(answer.values()) == {"refused"}, [pair for pair, end in answer.items() if end != "refused"]


@pytest.mark.disturbs
def test_rules_that_somebody_flushed_come_back(host) -> None:
    host.check_output("nft flush ruleset")
    applied = salt_call(host, "state.sls_id 'the firewall' base.firewall")
    assert applied.rc == 0, applied.stderr
    assert "policy drop" in host.check_output("nft list table inet saltern")


def test_what_is_granted_is_remembered_for_root_alone_and_without_passwords(host) -> None:
    record = host.file("/var/lib/saltern/needs.json")
    if not record.exists:  # an edge or a master has nothing that an app or another host needs
        assert not {"postgres", "redis", "web", "worker", "builder"} & {*host.roles}
        return
    assert (record.user, record.mode) == ("root", 0o600)
    users = [one["user"] for one in json.loads(record.content_string).values() if one["part"] == "redis"]
    hashes = [good for user in users for good in user["good"]]
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in hashes) and len(hashes) >= len(users)


def daemons(host) -> list[str]:
    """The long-running services that this fleet's roles brought."""
    patterns = "'app-*' nginx.service haproxy.service keepalived.service 'postgresql@*' redis-server.service"
    patterns += " redis-server@cache.service redis-unblock.service postgres-guard.service"
    patterns += " ssh.service salt-minion.service salt-master.service"
    listed = host.check_output(f"systemctl list-units --state=running --plain --no-legend {patterns} | cut -d' ' -f1")
    return listed.split()


# Ten seconds of a machine that has nothing else to do. What a second of a processor takes at this moment is measured
# first, and what the disk takes to write what others have left for it: Postgres syncs its files before it recovers.
KILL_AND_WAIT = """
import json, os, subprocess, sys, time
whom, seconds, units = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
def show(unit):
    command = ["systemctl", "show", "-p", "MainPID", "-p", "ActiveState", unit]
    asked = subprocess.run(command, capture_output=True, text=True)
    return dict(line.split("=", 1) for line in asked.stdout.splitlines())
began, spent = time.monotonic(), time.process_time()
while time.process_time() - spent < 0.2:
    pass
seconds *= (time.monotonic() - began) / 0.2
began = time.monotonic()
os.sync()
seconds += time.monotonic() - began
before = {unit: show(unit)["MainPID"] for unit in units}
for unit in units:
    subprocess.run(["systemctl", "kill", "-s", "KILL", "--kill-who=" + whom, unit], check=True)
end = time.monotonic() + seconds
waiting = set(units)
while waiting and time.monotonic() < end:
    time.sleep(0.1)
    for unit in list(waiting):
        now = show(unit)
        if now["ActiveState"] == "active" and now["MainPID"] not in ("0", before[unit]):
            waiting.remove(unit)
print(json.dumps([f"{unit} is not back after {seconds:.1f} s" for unit in sorted(waiting)]))
"""


@pytest.mark.disturbs
@pytest.mark.parametrize("whom", ["main", "all"])
def test_every_daemon_comes_back_after_kill_9(host, whom: str, served_again: Callable[[], None]) -> None:
    """Its main process alone, or all of its processes at once. All daemons die together, and all serve again."""
    units = [unit for unit in daemons(host) if whom == "main" or unit != "ssh.service"]  # our own session is in it
    assert units or whom == "all"
    script = shlex.join(["python3", "-c", KILL_AND_WAIT, whom, str(BACK_WITHIN), *units])
    assert json.loads(host.check_output(script)) == []
    served_again()
