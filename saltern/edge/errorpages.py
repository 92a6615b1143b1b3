"""The pages that a visitor sees when no app answers: one small page for each status, with nothing to load."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
OWN_POLICY = f"{POLICY}; img-src data:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
FOLDER = "/etc/haproxy/pages"
MAINTENANCE = "maintenance"
DOWN = "down"
WHILE_DOWN = (502, 503, 504)
PLACEHOLDERS = ("message", "until")


def mark() -> str:
    """Return the header by which nginx tells the edge that an answer is its own, and no app's."""
    return "X-Saltern-Error"


def page(status: int, reason: str, sentence: str) -> str:
    """Return the page of one status.

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
    """Return our pages as HAProxy's configuration takes them: `status`, `text` (quoted) and further `headers`.

    Example:
        >>> [page["status"] for page in pages()][:2]
        [400, 403]
    """
    return [
        {"status": status, "text": quoted(page(status, *words)), "headers": headers(status)}
        for status, words in PAGES.items()
    ]


def of_app(app: str, own: Collection[str]) -> list[dict[str, Any]]:
    """Return the pages of one app, which go before those of all: its own, and ours with its name while it is down.

    Args:
        app: name of an app.
        own: the pages that it brings: a status, `down` (for 502, 503 and 504) or `maintenance`.

    Returns:
        `status`, `headers`, and either `file`, where the app's own page is, or our `text` (quoted).

    Example:
        >>> [(page["status"], "file" in page) for page in of_app("demo", ["404", "503"])]
        [(404, True), (502, False), (503, True), (504, False)]
    """
    found: dict[int, dict[str, Any]] = {
        status: {"text": quoted(page(status, *words))} for status, words in named(app).items()
    }
    found |= {status: {"file": page_file(app, DOWN)} for status in WHILE_DOWN if DOWN in own}
    found |= {int(status): {"file": page_file(app, status)} for status in own if status not in (DOWN, MAINTENANCE)}
    return [
        {"status": status, "headers": headers(status, "file" in one), **one} for status, one in sorted(found.items())
    ]


def named(app: str) -> dict[int, tuple[str, str]]:
    """Return reason and sentence of each of our pages that names the app.

    Example:
        >>> named("demo")[504]
        ('Gateway timeout', 'demo took too long to answer. Please try again in a moment.')
    """
    return {status: (PAGES[status][0], PAGES[status][1].replace("The site", app)) for status in WHILE_DOWN}


def page_file(app: str, name: str) -> str:
    """Return where an edge has a page that an app brings.

    Example:
        >>> page_file("demo", "503")
        '/etc/haproxy/pages/demo.503.html'
    """
    return f"{FOLDER}/{app}.{name}.html"


def page_files(pages: Mapping[str, Collection[str]]) -> dict[str, dict[str, Any]]:
    """Return the files that an edge needs for all apps' own pages: of each path the app, the page, and what is
    replaced in its text, in order.

    Args:
        pages: what each app brings, as for `of_app`.

    Example:
        >>> page_files({"demo": ["503"]})
        {'/etc/haproxy/pages/demo.503.html': {'app': 'demo', 'page': '503', 'replaced': []}}
    """
    found: dict[str, dict[str, Any]] = {
        page_file(app, name): {"app": app, "page": name, "replaced": _replaced() if name == MAINTENANCE else []}
        for app, own in pages.items()
        for name in own
    }
    return found


def _replaced() -> list[list[str]]:
    """Return what makes a text HAProxy's log-format."""
    return [["%", "%%"], *([f"{{{name}}}", f"%[var(txn.{name})]"] for name in PLACEHOLDERS)]


def maintenance(app: str, own: Collection[str]) -> dict[str, Any]:
    """Return the page of an app that is in maintenance, as HAProxy takes it: `file` or `text`, and `headers`.

    HAProxy fills in `{message}` and `{until}` when it answers; how long to wait is a header then, too.

    Args:
        app: name of an app.
        own: the pages that it brings.

    Example:
        >>> maintenance("demo", ["maintenance"])["file"]
        '/etc/haproxy/pages/demo.maintenance.html'
    """
    told = headers(503, MAINTENANCE in own) | {"Retry-After": "%[var(txn.retry)]"}
    if MAINTENANCE in own:
        return {"file": page_file(app, MAINTENANCE), "headers": told}
    text = page(503, "Maintenance", f"{app} is being worked on.</p><p>{{message}} {{until}}")
    return {"text": quoted(as_format(text)), "headers": told}


def as_format(text: str) -> str:
    """Return a page as HAProxy's log-format: no `%` of it is an order, and its placeholders are HAProxy's variables.

    Example:
        >>> as_format("{until} %[env(HOME)]")
        '%[var(txn.until)] %%[env(HOME)]'
    """
    for plain, written in _replaced():
        text = text.replace(plain, written)
    return text


def headers(status: int, own: bool = False) -> dict[str, str]:
    """Return the headers of an answer with such a page, beside its type and what every answer has.

    Args:
        status: the answer's.
        own: whether it is a page that an app brings: from the app's origin, but whoever writes it runs no script there.

    Example:
        >>> headers(503)["Retry-After"]
        '10'
    """
    found = {"Cache-Control": "no-store", "Content-Security-Policy": OWN_POLICY if own else POLICY}
    return found | ({"Retry-After": str(RETRY_SECONDS)} if status in RETRIED else {})


def quoted(text: str) -> str:
    """Return a text as it stands between double quotes in HAProxy's configuration.

    Example:
        >>> quoted('say "$x"')
        'say \\\\"\\\\$x\\\\"'
    """
    for plain, written in (("\\", "\\\\"), ('"', '\\"'), ("$", "\\$"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(plain, written)
    return text
