"""Counting words in the background: small work, done as real work should be.

A task is delivered at least once, and sometimes twice: it is acknowledged when it has ended (settings.py),
so a worker that dies in the middle loses nothing. So it must do no harm when it runs again: it writes what it
found, and adds to nothing but the count of its own runs. And nothing depends on the broker: a note that was
never counted is found by the clock.
"""

import logging
import platform
import time
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from kombu.exceptions import OperationalError

from demo.celery import app
from notes.models import Note
from words.models import WordCount

logger = logging.getLogger(__name__)

MISSED = timedelta(minutes=10)  # a note that is older and has no count: its task was never sent
AT_ONCE = 500


@app.task
def count(note: int) -> None:
    """Counts the words of a note; one that is gone by now needs none."""
    time.sleep(settings.COUNT_SECONDS)
    text = Note.objects.filter(pk=note).values_list("text", flat=True).first()
    if text is None:
        return
    with transaction.atomic():
        WordCount.objects.get_or_create(note_id=note)
        WordCount.objects.filter(note_id=note).update(
            words=len(text.split()),
            runs=F("runs") + 1,
            release=settings.RELEASE_ID,
            host=platform.node(),
        )


@app.task
def count_missed() -> int:
    """Sends the tasks that were never sent, as the broker was away just then; beat runs it every minute."""
    missed = Note.objects.filter(words=None, created__lt=timezone.now() - MISSED)
    notes = list(missed.values_list("pk", flat=True)[:AT_ONCE])
    for note in notes:
        count.delay(note)
    return len(notes)


def count_soon(note: int) -> None:
    """Sends the task when the note is really in the database. A broker that is away costs no note."""

    def send() -> None:
        try:
            count.apply_async([note], retry=False)
        except OperationalError:
            logger.warning("the broker does not take a task", exc_info=True)

    transaction.on_commit(send)
