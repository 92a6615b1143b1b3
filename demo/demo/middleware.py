"""Two small middlewares: a request id with one log line per request, and a Content-Security-Policy."""

import logging
import re
import time
import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from demo.logs import request_id

logger = logging.getLogger("demo.request")

# The id goes into logs and pages, so what comes in from outside has to look like one.
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
PROBES = ("/healthz", "/-/serving", "/-/version")

GetResponse = Callable[[HttpRequest], HttpResponse]


class RequestLog:
    """Takes the proxy's X-Request-ID (or makes one), answers with it, and logs each finished request."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        identifier = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.id = identifier
        token = request_id.set(identifier)
        started = time.perf_counter()
        try:
            response = self.get_response(request)
            response.headers["X-Request-ID"] = identifier
            fields = {
                "method": request.method,
                "path": request.path,  # without the query, which may hold what logs must not
                "status": response.status_code,
                "duration_ms": round((time.perf_counter() - started) * 1000, 1),
            }
            # Load balancers ask every few seconds: their good answers are noise.
            quiet = request.path in PROBES and response.status_code == 200
            logger.log(
                logging.DEBUG if quiet else logging.INFO,
                "%s %s %s", request.method, request.path, response.status_code,
                extra={"fields": fields},
            )  # fmt: skip
            return response
        finally:
            request_id.reset(token)


class ContentSecurityPolicy:
    """Adds the policy in settings.CONTENT_SECURITY_POLICY to every answer. (Django 6.0 brings its own.)"""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", settings.CONTENT_SECURITY_POLICY)
        return response
