"""The lab's commands."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from debian import Refused, version
from lab import fleet, machine, served
from lab.apply import Outcome, apply, explain
from lab.host import Host
from lab.lab import Lab, all_labs, fleet_folder
from lab.output import detail, fail, result, say, stage

DEFAULT_FLEET = "single"

Options = argparse.Namespace


def up(options: Options) -> None:
    """Bring a lab up, apply the highstate, show where it is served. On a running lab: check, heal, say so."""
    lab = Lab(options.lab or fleet_folder(options.fleet or DEFAULT_FLEET).name)
    with lab.locked():
        if options.take_over and lab.exists:
            lab.take_over()
        was_running = lab.running
        lab.make(options.fleet or (lab.record.fleet if lab.exists else DEFAULT_FLEET), options.release, options.image)
        outcomes = apply_all(lab)
        with stage("asking for the page, as a browser does"):
            pages = served.check(lab.site)
    if was_running and not any(outcome.changed for outcome in outcomes):
        say(f"lab {lab.name} was up already: nothing to do")
    say(served.summary(lab.site, pages, lab.hosts()[0].id))


def applied(host: Host, plan: bool = False) -> Outcome:
    """Apply (or plan) on one host with progress; a failure ends the command with its explanation."""
    count = 0

    def show(name: str, milliseconds: float) -> None:
        nonlocal count
        count += 1
        detail(f"{host.id}: {count} states, {name[:60]} ", (f"{milliseconds:.0f} ms", "dim"))

    with stage(f"{host.id}: state.apply{' test=True' if plan else ''}"):
        outcome = apply(host, plan=plan, on_state=show)
        if not outcome.ok:
            fail(explain(outcome))
    told(outcome, plan)
    return outcome


def apply_all(lab: Lab) -> list[Outcome]:
    """Apply to every host. A master applies itself first, without itself; then it applies the others."""
    if not lab.master:
        return [applied(host) for host in lab.hosts()]
    first = applied(lab.master)
    with stage(f"connecting {', '.join(host.id for host in lab.minions())}"):
        fleet.connect(lab.master, lab.minions())
    return [first, *applied_by_master(lab, [])]


def applied_by_master(lab: Lab, hosts: list[str], plan: bool = False) -> list[Outcome]:
    """Apply (or plan) from the master with progress; a failure ends the command with its explanation."""
    assert lab.master
    counts: dict[str, int] = {}

    def show(host: str, name: str, milliseconds: float) -> None:
        counts[host] = counts.get(host, 0) + 1
        so_far = ", ".join(f"{i} {n}" for i, n in sorted(counts.items()))
        detail(f"{so_far}: {name[:60]} ", (f"{milliseconds:.0f} ms", "dim"))

    words = f"orch.apply{' (plan)' if plan else ''}"
    with stage(f"{lab.master.id}: salt-run state.orchestrate {words}"):
        outcomes = fleet.apply(lab.master, lab.minions(), hosts, plan=plan, on_state=show)
        bad = [explain(outcome) for outcome in outcomes if not outcome.ok]
        if bad or not outcomes:
            fail("\n".join(bad) or "no host was applied")
    for outcome in outcomes:
        told(outcome, plan)
    return outcomes


def told(outcome: Outcome, plan: bool) -> None:
    """Say how many states there were, and how many changed something."""
    would = "would change" if plan else "changed"
    say(f"    {outcome.host}: {len(outcome.states)} states, {len(outcome.changed)} {would}")


def apply_command(options: Options) -> None:
    """Apply the states of the work tree to one host or to all."""
    lab = chosen(options)
    with lab.locked():
        lab.refuse_other_clone()
        lab.refresh_site()
        hosts = [lab.host(options.host)] if options.host else lab.hosts()
        if lab.master:
            done = iter(applied_by_master(lab, [host.id for host in hosts if options.host], options.test))
        else:
            done = (applied(host, options.test) for host in hosts)
        for outcome in done:
            for state in outcome.states:
                if state["__id__"] in outcome.changed:
                    comment = str(state["comment"]).partition("\n")[0]
                    say(f"      {state['__id__']}  ", (comment[:90], "dim"))


def status(options: Options) -> None:
    """List the labs of this machine and their hosts."""
    labs = [Lab(options.lab)] if options.lab else all_labs()
    if not labs:
        result("no lab: bin/lab up makes one")
    for lab in labs:
        record = lab.record
        result(f"{lab.name}: fleet {record.fleet}, Debian {record.release}, image {record.image}")
        for host in lab.hosts():
            roles = " ".join(lab.fleet["hosts"][host.id]["roles"])
            result(f"  {host.id:12} {'running' if host.running else 'stopped':8} {host.address:15} {roles}")
        for host in lab.left_over():
            state = "running" if host.running else "stopped"
            result(f"  {host.id:12} {state:8} not in the fleet any more: bin/lab drop {host.id} --lab {lab.name}")
        for one, other in lab.network.cuts():
            result(f"  {one} and {other} are cut off from each other: bin/lab mend --lab {lab.name}")


def execute(options: Options) -> None:
    """Run a command on a host as root; its exit code is the command's."""
    host = chosen(options).host(options.host)
    sys.exit(host.execute(options.command or ["bash", "-l"], cwd=host.home).returncode)


def ssh(options: Options) -> None:
    """Log in to a host by ssh with the lab's key."""
    lab = chosen(options)
    lab.host(options.host)
    sys.exit(subprocess.run(["ssh", "-F", str(lab.ssh_config), options.host, *options.command], check=False).returncode)


def logs(options: Options) -> None:
    """Show a host's journal."""
    # By unit, which systemd says, and not by the name that a process gives itself.
    command = ["journalctl", "--no-pager", "--output=with-unit", f"--lines={options.lines}"]
    command += [f"--unit={unit}" for unit in options.unit] + (["--follow"] if options.follow else [])
    sys.exit(chosen(options).host(options.host).execute(command).returncode)


def reboot(options: Options) -> None:
    """Shut a host down in order and boot it again."""
    lab = chosen(options)
    with lab.locked(), stage(f"rebooting {options.host}"):
        host = lab.host(options.host)
        host.stop()
        host.boot()


def cut(options: Options) -> None:
    """Cut two hosts off from each other: nothing passes between them, until bin/lab mend."""
    lab = chosen(options)  # not locked: what an apply or a deploy does then is worth seeing
    lab.cut(options.host, options.other)
    say(f"{options.host} and {options.other} are cut off from each other; undo it:  bin/lab mend --lab {lab.name}")


def mend(options: Options) -> None:
    """Undo all cuts of a lab."""
    lab = chosen(options)
    cuts = lab.network.cuts()
    lab.network.mend()
    say("\n".join(f"{one} and {other} reach each other again" for one, other in cuts) or "nothing was cut")


def drop(options: Options) -> None:
    """Delete a host's disk. If the fleet has it still, the next bin/lab up makes a new one in its place."""
    lab = chosen(options)
    with lab.locked(), stage(f"deleting {options.host}"):
        lab.drop(options.host)


def commit(options: Options) -> None:
    """Turn a host into an image. The host is shut down for the copy and booted again."""
    lab = chosen(options)
    with lab.locked(), stage(f"{options.host} becomes image {options.image}"):
        lab.host(options.host).commit(options.image)
    say(f"boot new hosts from it:  bin/lab up --lab NAME --image {options.image}")


def down(options: Options) -> None:
    """Shut a lab's hosts down; their disks stay for the next up."""
    lab = chosen(options)
    with lab.locked():
        lab.down()


def destroy(options: Options) -> None:
    """Remove a lab and all that it made, but the caches."""
    lab = chosen(options)
    with lab.locked(), stage(f"removing lab {lab.name}"):
        lab.destroy()


def test(options: Options) -> None:
    """Run the tests, on labs of their own."""
    from lab import tests

    sys.exit(tests.run(options.tier, options.keyword, [options.release] if options.release else None))


def audit(options: Options) -> None:
    """Let Lynis, ssh-audit, sslyze, systemd-analyze, OpenSCAP and debsums look at the hosts, and print their table."""
    from lab.audit import run

    lab = chosen(options)
    hosts = [lab.host(options.host)] if options.host else lab.hosts()
    with lab.locked():
        rows = run.audit(lab, hosts, run.goals())
    run.show(rows, options.json)
    sys.exit(0 if all(row.passed for row in rows) else 1)


def tool(options: Options) -> None:
    """Run a program of the lab's own environment: ruff, mypy, pytest, python bench/figures.py ..."""
    words = [*options.words, *(["--", *options.command] if options.command else [])]
    if not words:
        raise Refused("which program?  bin/lab tool ruff check .")
    folder = Path(sys.executable).parent
    if words[0] not in {path.name for path in folder.iterdir()}:
        raise Refused(f"there is no program {words[0]} in {folder}")
    program = folder / words[0]
    os.execv(program, [str(program), *words[1:]])  # noqa: S606  this is what was asked for


def check(options: Options) -> None:
    """Run the linters and the tests that need no root; or, for a site, check its files and compile its hosts."""
    from lab import tests

    sys.exit(tests.check_site(Path(options.site)) if options.site else tests.check())


def chosen(options: Options) -> Lab:
    """Return the lab that the person means: the named one, or the only one.

    Raises:
        Refused: none, or several.
    """
    if options.lab:
        lab = Lab(options.lab)
        lab.record  # noqa: B018  refuses when there is none
        return lab
    labs = all_labs()
    if not labs:
        raise Refused("there is no lab: bin/lab up makes one")
    if len(labs) > 1:
        raise Refused(f"which lab? add --lab NAME, one of: {', '.join(lab.name for lab in labs)}")
    return labs[0]


def parser() -> argparse.ArgumentParser:
    """Return the parser with every command."""
    top = argparse.ArgumentParser(
        prog="bin/lab",
        description="The whole platform on this machine: real Debian hosts with real systemd, to try and to prove.",
        epilog="Start with:  sudo bin/lab up     Caches: /var/cache/saltern     Labs: /var/lib/saltern/labs",
    )
    top.add_argument("--version", action="version", version=f"saltern {version()}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: Callable[[Options], None]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=(function.__doc__ or "").split("\n")[0], description=function.__doc__)
        sub.set_defaults(function=function, verb=name)
        sub.add_argument("--lab", metavar="NAME", help="which lab (default: the only one)")
        return sub

    sub = command("up", up)
    sub.add_argument(
        "fleet",
        nargs="?",
        help=f"a fleet under lab/fleets/, or a site's folder (default: the lab's own, or {DEFAULT_FLEET})",
    )
    sub.add_argument(
        "--release", choices=machine.known_releases(), help="Debian release of new hosts (default: trixie)"
    )
    sub.add_argument("--image", help="boot new hosts from an image made by bin/lab commit")
    sub.add_argument(
        "--take-over", action="store_true", help="of a lab that another clone of the repository made; reboots its hosts"
    )
    sub = command("apply", apply_command)
    sub.add_argument("host", nargs="?", help="only this host")
    sub.add_argument("--test", action="store_true", help="only show what would change")
    command("status", status)
    for name, function in (("exec", execute), ("ssh", ssh)):
        sub = command(name, function)
        sub.add_argument("host")
        sub.usage = f"bin/lab {name} [-h] [--lab NAME] HOST [-- COMMAND ...]"
        sub.epilog = "Without a command: a shell."
    sub = command("logs", logs)
    sub.add_argument("host")
    sub.add_argument("-u", "--unit", action="append", default=[], help="only this unit; may be given several times")
    sub.add_argument("-n", "--lines", default=100, type=int, help="how many lines (default: 100)")
    sub.add_argument("-f", "--follow", action="store_true", help="go on showing new lines")
    command("reboot", reboot).add_argument("host")
    sub = command("cut", cut)
    sub.add_argument("host", metavar="A", help="a host")
    sub.add_argument("other", metavar="B", help="another host")
    sub.epilog = (
        "Every frame between the two is dropped, in both directions, of connections that there are too, so each sees "
        "the other fall silent. Both still reach all other hosts, and you reach both. May be said of several pairs; "
        "works while another command runs. down and destroy undo it as well. "
        "Example: bin/lab cut web1 db1; bin/lab logs web1 -f; bin/lab mend"
    )
    command("mend", mend)
    sub = command("drop", drop)
    sub.add_argument("host")
    sub.epilog = (
        "The plug is pulled and the disk thrown away, as when a server is given back or burns. To take a host out of a "
        "fleet without a failed request: take it out of the fleet's file, then salt-run state.orchestrate "
        "orch.remove_host on the master, then drop it."
    )
    sub = command("commit", commit)
    sub.add_argument("host")
    sub.add_argument("image", help="a new name")
    command("down", down)
    command("destroy", destroy)
    sub = command("test", test)
    sub.add_argument("tier", nargs="*", help="unit, compile, hosts, scenarios, fleet (default: all)")
    sub.add_argument("--release", choices=machine.known_releases(), help="hosts of this Debian release (default: both)")
    sub.add_argument("-k", dest="keyword", help="only tests whose name matches, as pytest's -k")
    sub = command("audit", audit)
    sub.add_argument("host", nargs="?", help="only this host")
    sub.add_argument("--json", action="store_true", help="print the rows as JSON")
    sub.epilog = "Goals, and what is left with its reason: lab/audit/goals.yaml. Exit code 1: a goal is missed."
    sub = command("check", check)
    sub.add_argument("site", nargs="?", help="a site's folder (default: this repository's own code)")
    sub = command("tool", tool)
    sub.add_argument("words", nargs=argparse.REMAINDER, metavar="PROGRAM ...", help="the program, and its arguments")
    return top


def main() -> None:
    """Run the command that was typed."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    options = parser().parse_args(words[:cut])
    options.command = words[cut + 1 :]
    try:
        options.function(options)
    except Refused as why:
        fail(str(why))
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stdout = None
    except KeyboardInterrupt:
        fail(f"stopped; the next  bin/lab {options.verb}  goes on from here")
