"""The demo's own tests, as its README has them: no Postgres, no Redis, no root."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "demo"


def test_the_demos_own_tests_pass(tmp_path: Path) -> None:
    settings = {
        "DATABASE_URL": "sqlite://:memory:",
        "CACHE_URL": "locmemcache://",
        "SECRET_KEY": "test",
        "ALLOWED_HOSTS": "localhost",
        "STATIC_ROOT": str(tmp_path / "none"),
    }
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", **settings}
    command = [sys.executable, "manage.py", "test"]
    done = subprocess.run(command, cwd=DEMO, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = re.search(r"Ran (\d+) tests", done.stderr)
    assert found and int(found[1]) > 70, "none was lost"
