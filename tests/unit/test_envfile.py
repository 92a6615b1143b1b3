"""Environment files say to systemd what was meant."""

from __future__ import annotations

import pytest

from saltern.release import envfile


@pytest.mark.parametrize(
    "value", ["", "plain", 'a "b" $c `d` \\e', "\\\\", "é ü", " spaces ", "a=b#c;d'e", "\\n", "%%"]
)
def test_environment_is_read_back_as_written(value: str) -> None:
    written = envfile.text({"ONE": value, "TWO": "2"})
    assert envfile.values(written) == {"ONE": value, "TWO": "2"}


def test_environment_of_more_than_one_line_is_refused() -> None:
    with pytest.raises(ValueError, match="environment variable KEY"):
        envfile.text({"KEY": 'a"\nPATH="/tmp'})
