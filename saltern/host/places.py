"""Where things are on a host: the directories that more than one subject knows."""

from __future__ import annotations

from pathlib import Path

BUILDS = Path("/var/lib/saltern/builds")
WORKSHOPS = Path("/var/lib/saltern/workshops")
APPS = Path("/srv/apps")  # releases, ledger, pin and static files of each app
DATA = Path("/var/lib/apps")  # a directory for each app, and each is its account's
SOCKETS = Path("/run/apps")  # of releases, as the apps make them
WEB = Path("/run/web")  # the same sockets, by the names that nginx connects to
RUN = Path("/run/saltern")
UNITS = Path("/etc/systemd/system")
TMPFILES = Path("/etc/tmpfiles.d")
PROC = Path("/proc")
KEEP_RELEASES = 3  # the active one, the one to go back to, and one more
