"""The pages that a visitor sees when no app answers: one small page for each status, with nothing to load."""

from __future__ import annotations

from typing import Any

RETRY_SECONDS = 10
# Those that HAProxy has a page for. Reason and sentence: what happened, and what the visitor can do.
PAGES = {
    400: ("Bad request", "The request could not be understood."),
    403: ("Forbidden", "This page is not for you."),
    404: ("Not found", "There is nothing at this address."),
    405: ("Method not allowed", "This page does not take such a request."),
    408: ("Request timeout", "The request took too long to arrive. Please try again."),
    413: ("Content too large", "What was sent is too large."),
    421: ("Misdirected request", "No site of that name is served here."),
    429: ("Too many requests", "Too much was asked from your address. Please wait a moment and try again."),
    500: ("Internal server error", "Something went wrong on our side. Please try again later."),
    502: ("Bad gateway", "The site did not answer as it should. Please try again in a moment."),
    503: ("Service unavailable", "The site is not available right now. Please try again in a moment."),
    504: ("Gateway timeout", "The site took too long to answer. Please try again in a moment."),
}
RETRIED = (429, 502, 503, 504)
STYLE = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;color:#223;background:#f7f7f5;margin:15vh auto;max-width:34rem;"
    "padding:0 1rem}h1{font-size:1.6rem}p.s{color:#778;font-size:.9rem}"
    "@media(prefers-color-scheme:dark){body{color:#dde;background:#16181d}}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def mark() -> str:
    """Answers the header by which nginx tells the edge that an answer is its own, and no app's."""
    return "X-Saltern-Error"


def page(status: int, reason: str, sentence: str) -> str:
    """Answers the page of one status.

    Example:
        >>> "503" in page(503, "Service unavailable", "Later.")
        True
    """
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{reason}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
        f"<style>{STYLE}</style></head><body><h1>{reason}</h1><p>{sentence}</p>"
        f'<p class="s">{status}</p></body></html>\n'
    )


def pages() -> list[dict[str, Any]]:
    """Answers our pages as HAProxy's configuration takes them: `status`, `text` (quoted) and further `headers`.

    Example:
        >>> [page["status"] for page in pages()][:2]
        [400, 403]
    """
    return [
        {"status": status, "text": quoted(page(status, *words)), "headers": headers(status)}
        for status, words in PAGES.items()
    ]


def headers(status: int) -> dict[str, str]:
    """Answers the headers of an answer with a page of ours, beside its type and what every answer has.

    Example:
        >>> headers(503)["Retry-After"]
        '10'
    """
    found = {"Cache-Control": "no-store", "Content-Security-Policy": POLICY}
    return found | ({"Retry-After": str(RETRY_SECONDS)} if status in RETRIED else {})


def quoted(text: str) -> str:
    """Answers a text as it stands between double quotes in HAProxy's configuration.

    Example:
        >>> quoted('say "$x"')
        'say \\\\"\\\\$x\\\\"'
    """
    for plain, written in (("\\", "\\\\"), ('"', '\\"'), ("$", "\\$"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(plain, written)
    return text
