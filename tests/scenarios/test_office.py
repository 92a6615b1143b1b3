"""Limits that honest people never meet: many of them behind one address, each with a page and all that it shows."""

from __future__ import annotations

import ssl
import threading
from collections import Counter

from lab.lab import Lab
from lab.served import Connection, ca_file, pages

PEOPLE, FILES = 20, 40
FILE = "/static/admin/js/vendor/jquery/jquery.min.js"


def test_an_office_behind_one_address_is_refused_nothing(lab: Lab) -> None:
    """All open the same page at once, as on a Monday morning, with cold caches."""
    page = next(page for page in pages(lab.site) if page.hostname.startswith("demo."))
    tls = ssl.create_default_context(cafile=str(ca_file(lab.site)))
    seen: Counter[int] = Counter()

    def person() -> None:
        connection = Connection(page, tls, 30)
        for path in ["/", *[FILE] * FILES, "/-/version"]:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            seen[answer.status] += 1
        connection.close()

    people = [threading.Thread(target=person) for _ in range(PEOPLE)]
    for one in people:
        one.start()
    for one in people:
        one.join()
    assert seen == {200: PEOPLE * (FILES + 2)}
