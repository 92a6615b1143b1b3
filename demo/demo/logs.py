"""Log lines as JSON objects, each with the id of the request that it belongs to."""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Args:
        release: the release that is written into each line.

    Example:
        ``logger.info("saved", extra={"fields": {"note": 7}})`` becomes
        ``{"time": ..., "level": "INFO", "logger": ..., "message": "saved", ..., "note": 7}``.
    """

    def __init__(self, release: str) -> None:
        super().__init__()
        self.release = release

    def format(self, record: logging.LogRecord) -> str:
        # Django logs an answer after the middleware is done, when only the record still knows the request.
        request = getattr(record, "request", None)
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "release": self.release,
            "request_id": getattr(request, "id", None) or request_id.get(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
