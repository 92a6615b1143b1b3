"""The guestbook and its figures."""

import platform
import time
from typing import Any

import django
from django.conf import settings
from django.contrib import messages
from django.core.cache import caches
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from demo.replicas import read_from
from notes.figures import SECONDS, figures
from notes.forms import NoteForm
from notes.models import Note

SHOWN = 8


def database_round_trip_ms() -> float:
    connection.ensure_connection()  # the time to connect is not the round trip
    started = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    return round((time.perf_counter() - started) * 1000, 2)


def cache_name() -> str:
    """The kind of cache: Redis, LocMem, ..."""
    return type(caches["default"]).__name__.removesuffix("Cache")


def facts(request: HttpRequest) -> dict[str, Any]:
    """What is true of this request, on this host, now. Nothing that an attacker could use."""
    return {
        "release": settings.RELEASE_ID,
        "commit": settings.RELEASE_COMMIT,
        "host": platform.node(),
        "django": django.get_version(),
        "python": platform.python_version(),
        "server": request.META.get("SERVER_SOFTWARE", "").partition("/")[0] or "WSGI",
        "proxied": "X-Forwarded-Proto" in request.headers,
        "secure": request.is_secure(),
        "database": connection.display_name,
        "read_from": read_from(),
        "replicas": len(settings.DATABASES) > 1,
        "database_ms": database_round_trip_ms(),
        "cache": cache_name(),
    }


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def guestbook(request: HttpRequest) -> HttpResponse:
    """Shows the last notes and takes a new one."""
    form = NoteForm(request.POST if request.method == "POST" else None, label_suffix="")
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, "Thank you. Your note is in the database.")
        return redirect("guestbook")
    context = {
        "form": form,
        "notes": Note.objects.select_related("words")[:SHOWN],
        "total": Note.objects.count(),
        "facts": facts(request),
        "answer": figures(),
    }
    return render(request, "notes/guestbook.html", context, status=422 if form.errors else 200)


@never_cache
@require_safe
def statistics(request: HttpRequest) -> HttpResponse:
    """A page made from cached figures; the page itself is never cached by browsers."""
    return render(request, "notes/statistics.html", {"answer": figures(), "seconds": SECONDS})
