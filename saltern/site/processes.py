"""What an app runs beside its web processes: background processes and timers."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from .kinds import Allowed, Argument, Module, QueueName
from .model import Model

# systemd.time(7). Whether all of it makes sense, such as 31 February, systemd is asked before a timer is written.
_WORD = re.compile("minutely|hourly|daily|weekly|monthly|quarterly|semiannually|yearly|annually")
_DAY = "(Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_NUMBERS = r"(\*|\d+(\.\.\d+)?)(/\d+)?(,(\*|\d+(\.\.\d+)?)(/\d+)?)*"
_FIELDS = (
    re.compile(rf"{_DAY}((,|\.\.){_DAY})*"),
    re.compile(f"({_NUMBERS}-)?{_NUMBERS}[-~]{_NUMBERS}"),
    re.compile(f"{_NUMBERS}:{_NUMBERS}(:{_NUMBERS})?"),
    re.compile(r"UTC|[A-Z][A-Za-z]+(/[A-Za-z_+-]+)+"),
)
_HIGHEST = (23, 59, 59)  # hour, minute, second


def _schedule(value: str) -> str:
    words, place = value.split(" "), 0
    if not _WORD.fullmatch(words[0]):
        for word in words:
            while place < len(_FIELDS) and not _FIELDS[place].fullmatch(word):
                place += 1
            if place == len(_FIELDS):
                raise ValueError("not a schedule")
            place += 1
        if _FIELDS[3].fullmatch(words[0]):
            raise ValueError("not a schedule")
    elif words[1:] and not (len(words) == 2 and _FIELDS[3].fullmatch(words[1])):
        raise ValueError("not a schedule")
    for time in [word for word in words if ":" in word]:
        for part, highest in zip(time.split(":"), _HIGHEST, strict=False):
            if any(int(number) > highest for number in re.findall(r"\d+", part)):
                raise ValueError("no such time of day")
    return value


Schedule = Annotated[
    str,
    AfterValidator(_schedule),
    Allowed('a calendar time of systemd.time(7), such as "*-*-* 03:00", "Mon..Fri 08:30" or "hourly"'),
]
Arguments = Annotated[
    list[Argument], Field(min_length=1), Allowed("a list of words, such as [clearsessions] or [send, --all]")
]
Megabytes = Annotated[int, Field(ge=64, le=1048576)]


class Celery(Model):
    """Workers of Celery."""

    queues: Annotated[list[QueueName], Field(min_length=1)] = Field(
        ["celery"], description="The queues it takes tasks from."
    )
    concurrency: int = Field(2, ge=1, le=256, description="Tasks at once.")
    app: Module | None = Field(
        None, description="What `celery --app` gets. Default: the first package of settings_module."
    )


class Beat(Model):
    """Celery's clock, which sends the tasks of a schedule."""

    app: Module | None = Field(None, description="As for a worker.")


def _one_of(model: Model, keys: tuple[str, ...]) -> None:
    given = [key for key in keys if getattr(model, key) is not None]
    if len(given) != 1:
        raise ValueError(f"{' and '.join(given) or 'nothing'} to run; exactly one is needed of: {', '.join(keys)}")


class Process(Model):
    """One background process, which runs for as long as its release does."""

    celery: Celery | None = Field(None, description="A Celery worker.")
    beat: Beat | None = Field(None, description="Celery's beat; runs on one host only.")
    manage: Arguments | None = Field(None, description="A management command that does not end, with its arguments.")
    command: Arguments | None = Field(
        None, description="A program of the app's virtual environment that does not end, with its arguments."
    )
    single: bool = Field(
        False,
        description="Run on one host only, and never two at once: the old release's stops before the new one's starts.",
    )
    stop_seconds: Annotated[int, Field(ge=1, le=3600)] | None = Field(
        None, description="How long it may take to stop. Default: `worker.stop_seconds`."
    )
    memory_max_mb: Megabytes | None = Field(None, description="Memory limit, in MiB. Default: the app's.")

    @model_validator(mode="after")
    def _check(self) -> Process:
        _one_of(self, ("celery", "beat", "manage", "command"))
        return self

    @property
    def uses_broker(self) -> bool:
        """Return whether it needs Celery's broker."""
        return self.celery is not None or self.beat is not None


class Timer(Model):
    """One command that runs at given times, on one host."""

    schedule: Schedule = Field(description="When it runs.")
    manage: Arguments | None = Field(None, description="A management command with its arguments.")
    command: Arguments | None = Field(
        None, description="A program of the app's virtual environment, with its arguments."
    )
    max_seconds: int = Field(3600, ge=1, le=604800, description="It is ended when it has run for so long.")
    memory_max_mb: Megabytes | None = Field(None, description="Memory limit, in MiB. Default: the app's.")

    @model_validator(mode="after")
    def _check(self) -> Timer:
        _one_of(self, ("manage", "command"))
        return self
