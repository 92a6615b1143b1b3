"""The methods at /RPC2, for XML-RPC and JSON-RPC clients (rpc4django).

Three things about rpc4django 0.6.3 that its manual does not say, for whoever adds a method here:

- It calls a method a second time when the first call raised TypeError, wherever that came from: a method must
  not raise one after it has written. (Without `request` as first argument the first call always fails so.)
- It sends the text of any exception to the client and logs nothing. `guarded` turns that round.
- `system.multicall` ignores `permission=` and `login_required=` of the methods it calls. It is removed below.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xmlrpc.client import Fault

from django.conf import settings
from django.http import HttpRequest
from rpc4django import rpcmethod
from rpc4django.jsonrpcdispatcher import JSONRPCException
from rpc4django.rpcdispatcher import dispatcher

from demo.logs import request_id
from notes.forms import NoteForm
from notes.models import Note
from words.models import WordCount

logger = logging.getLogger(__name__)

# http://xmlrpc-epi.sourceforge.net/specs/rfc.fault_codes.php
INVALID, FAILED = -32602, -32500
MOST = 100

for table in (dispatcher.rpcmethods, dispatcher.xmlrpcdispatcher.funcs, dispatcher.jsonrpcdispatcher.funcs):
    table.pop("system.multicall", None)


class RPCError(Fault, JSONRPCException):
    """An error that both kinds of client understand."""

    def __init__(self, code: int, message: str) -> None:
        Fault.__init__(self, code, message)
        JSONRPCException.__init__(self, message, code)


@contextmanager
def guarded() -> Iterator[None]:
    """Logs what goes wrong inside, and tells the client no more than where to find it."""
    try:
        yield
    except RPCError:
        raise
    except Exception as error:
        logger.exception("RPC method failed")
        raise RPCError(FAILED, f"that failed; the log has the reason, request {request_id.get()}") from error


@rpcmethod(name="notes.add", signature=["int", "string", "string"])
def add(request: HttpRequest, author: str, text: str) -> int:
    """Writes a note into the guestbook and returns its id."""
    if not isinstance(author, str) or not isinstance(text, str):
        raise RPCError(INVALID, "author and text: strings")
    form = NoteForm({"author": author, "text": text})
    if not form.is_valid():
        problems = [f"{name}: {' '.join(texts)}" for name, texts in form.errors.items()]
        raise RPCError(INVALID, "; ".join(problems))
    with guarded():
        return form.save().pk


@rpcmethod(name="notes.count", signature=["int"])
def count(request: HttpRequest) -> int:
    """Returns how many notes there are."""
    with guarded():
        return Note.objects.count()


@rpcmethod(name="notes.latest", signature=["array", "int"])
def latest(request: HttpRequest, limit: int) -> list[dict[str, Any]]:
    """Returns the newest notes, at most 100, each with id, author, text and created (ISO 8601)."""
    if not isinstance(limit, int) or not 1 <= limit <= MOST:
        raise RPCError(INVALID, f"limit: a whole number from 1 to {MOST}")
    with guarded():
        return [
            {"id": note.pk, "author": note.author, "text": note.text, "created": note.created.isoformat()}
            for note in Note.objects.all()[:limit]
        ]


@rpcmethod(name="notes.words", signature=["struct", "int"])
def words(request: HttpRequest, note: int) -> dict[str, Any]:
    """Returns what a worker found out about a note: words, runs, release, host. Empty while none has."""
    if not isinstance(note, int):
        raise RPCError(INVALID, "note: a whole number")
    with guarded():
        return WordCount.objects.filter(pk=note).values("words", "runs", "release", "host").first() or {}


@rpcmethod(name="demo.version", signature=["struct"])
def version(request: HttpRequest) -> dict[str, str]:
    """Returns the release and the commit that answer."""
    return {"release": settings.RELEASE_ID, "commit": settings.RELEASE_COMMIT}
