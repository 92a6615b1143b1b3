"""What every app needs and no user sees: health, version, and the page for errors."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from demo.health import DISPENSABLE, run_checks


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 when database, cache and migrations are good, else 503; `checks` names what is not."""
    return _health(spare=set())


@never_cache
@require_safe
def serving(request: HttpRequest) -> JsonResponse:
    """The same, but 200 while pages can be made: proxies would else leave out every host at once."""
    return _health(spare=DISPENSABLE)


def _health(spare: set[str]) -> JsonResponse:
    checks = run_checks()
    bad = {name for name, check in checks.items() if not check["ok"]}
    status = "failing" if bad - spare else "degraded" if bad else "ok"
    body = {"status": status, "release": settings.RELEASE_ID, "checks": checks}
    return JsonResponse(body, status=503 if bad - spare else 200)


@never_cache
@require_safe
def version(request: HttpRequest) -> JsonResponse:
    """Which release answers; it asks nothing of the database or the cache."""
    return JsonResponse({"release": settings.RELEASE_ID, "commit": settings.RELEASE_COMMIT})


@never_cache
@require_safe
def request_seen(request: HttpRequest) -> JsonResponse:
    """What the proxies in front say of this very request, without what the visitor keeps secret."""
    seen = {name: str(request.META.get(name, "")) for name in ("REMOTE_ADDR", "REMOTE_USER", "SCRIPT_NAME")}
    headers = {name: value for name, value in request.META.items() if name.startswith("HTTP_")}
    for name in ("HTTP_COOKIE", "HTTP_AUTHORIZATION"):
        headers.pop(name, None)
    body = {
        "scheme": request.scheme,
        "host": request.get_host(),
        "method": request.method,
        **seen,
        "headers": headers,
    }
    return JsonResponse(body)


def server_error(request: HttpRequest) -> HttpResponse:
    """The 500 page; Django's own handler gives its template no request, so it could not show the id."""
    return render(request, "500.html", status=500)
