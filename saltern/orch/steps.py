"""The steps of an orchestration, as Salt's master reads them: what one is, and in which order they are."""

from __future__ import annotations

from typing import Any

Body = dict[str, list[dict[str, Any]]]


def called(
    function: str, hosts: list[str], *arguments: Any, expected: bool = True, retry: int = 0, **named: Any
) -> Body:
    """Return a step that calls an execution function on hosts.

    Args:
        function: such as `edge.take_out`.
        hosts: their ids.
        arguments: what it is given.
        expected: a host that does not answer is a failure.
        retry: for so many seconds it is tried again until it succeeds.
        named: what it is given by name.

    Example:
        >>> called("test.ping", ["web1"])
        {'salt.function': [{'name': 'test.ping'}, {'tgt': ['web1']}, {'tgt_type': 'list'}, {'expect_minions': True}]}
    """
    body: list[dict[str, Any]] = [{"name": function}, *_to(hosts, expected)]
    body += [{"arg": list(arguments)}] if arguments else []
    body += [{"kwarg": named}] if named else []
    body += [{"timeout": 5}, {"retry": {"attempts": retry, "interval": 1, "until": True}}] if retry else []
    return {"salt.function": body}


def applied(hosts: list[str], sls: str = "", test: bool | None = None, pillar: dict[str, Any] | None = None) -> Body:
    """Return a step that applies states to hosts.

    Args:
        hosts: their ids.
        sls: one file of states; without, all that the hosts have.
        test: say what would change, and change nothing. None: as the orchestration was given (`test=True`).
        pillar: what the hosts are told with it.

    Example:
        >>> applied(["web1"], test=True)["salt.state"][-2:]
        [{'highstate': True}, {'test': True}]
    """
    body: list[dict[str, Any]] = [*_to(hosts, True), {"sls": [sls]} if sls else {"highstate": True}]
    body += [{"test": test}] if test is not None else []
    return {"salt.state": [*body, *([{"pillar": pillar}] if pillar else [])]}


def orchestrated(name: str, pillar: dict[str, Any] | None = None) -> Body:
    """Return a step that is another orchestration.

    Args:
        name: such as `settle`.
        pillar: what it is told.

    Example:
        >>> orchestrated("settle")
        {'salt.runner': [{'name': 'state.orchestrate'}, {'mods': 'orch.settle'}]}
    """
    told = [{"pillar": pillar}] if pillar else []
    return {"salt.runner": [{"name": "state.orchestrate"}, {"mods": f"orch.{name}"}, *told]}


def wheel(function: str, **named: Any) -> Body:
    """Return a step that the master does to itself.

    Args:
        function: one of Salt's wheel functions.
        named: what it is given by name.
    """
    return {"salt.wheel": [{"name": function}, *({key: value} for key, value in named.items())]}


def started(hosts: list[str], seconds: int) -> Body:
    """Return a step that waits until hosts have started.

    Args:
        hosts: their ids.
        seconds: how long it waits.
    """
    return {"salt.wait_for_event": [{"name": "salt/minion/*/start"}, {"id_list": list(hosts)}, {"timeout": seconds}]}


def told() -> Body:
    """Return a step whose name is a sentence for the operator, and which does nothing."""
    return {"test.nop": []}


def failed(comment: str = "") -> Body:
    """Return a step that fails.

    Args:
        comment: why, where its name does not say it.
    """
    return {"test.fail_without_changes": [{"comment": comment}] if comment else []}


def _to(hosts: list[str], expected: bool) -> list[dict[str, Any]]:
    return [{"tgt": list(hosts)}, {"tgt_type": "list"}, {"expect_minions": expected}]


class Steps:
    """Steps by name. Each waits for the one before, but for those that are told otherwise."""

    def __init__(self) -> None:
        self.named: dict[str, Body] = {}
        self.done: list[str] = []

    def then(self, name: str, body: Body) -> None:
        """Add a step that begins when the one before went well.

        Args:
            name: what it does, as the summary tells it.
            body: the step.
        """
        self._put(name, body, {"require": [{"salt": self.done[-1]}]} if self.done else {})
        self.done.append(name)

    def when_failed(self, name: str, body: Body, *others: str) -> None:
        """Add a step that is done when another one failed, or one of several.

        Args:
            name: what it does.
            body: the step.
            others: the names of those.
        """
        kind = "onfail" if len(others) == 1 else "onfail_any"
        self._put(name, body, {kind: [{"salt": other} for other in others]})

    def alone(self, name: str, body: Body) -> None:
        """Add a step that waits for no other.

        Args:
            name: what it does.
            body: the step.
        """
        self._put(name, body, {})

    def say(self, sentence: str) -> None:
        """Add a sentence for the operator.

        Args:
            sentence: what there is to be said.
        """
        self._put(sentence, told(), {})

    def _put(self, name: str, body: Body, requisites: dict[str, Any]) -> None:
        ((kind, arguments),) = body.items()
        self.named[name] = {kind: [*arguments, *([requisites] if requisites else [])]}
