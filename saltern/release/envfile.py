"""Environment files, as systemd reads them by ``EnvironmentFile=``."""

from __future__ import annotations

import re


def text(environment: dict[str, str]) -> str:
    """Write variables as systemd's EnvironmentFile reads them.

    Args:
        environment: values by name.

    Raises:
        ValueError: a value holds a line break or a null character.

    Example:
        >>> text({"PRICE": '5 $ "net"'})
        'PRICE="5 \\\\$ \\\\"net\\\\""\\n'
    """
    lines = []
    for name in sorted(environment):
        if re.search(r"[\0\r\n]", environment[name]):
            raise ValueError(f"environment variable {name}: one line of text is allowed")
        # The four characters that systemd takes a backslash off in double quotes (env-file.c, SHELL_NEED_ESCAPE).
        escaped = re.sub(r'(["\\`$])', r"\\\1", environment[name])
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def values(text: str) -> dict[str, str]:
    """Read what ``text`` wrote.

    Args:
        text: the file.

    Example:
        >>> values('PRICE="5 \\\\$"\\n')
        {'PRICE': '5 $'}
    """
    pairs = re.findall(r'^([^=]+)="(.*)"$', text, re.MULTILINE)
    return {name: re.sub(r'\\(["\\`$])', r"\1", value) for name, value in pairs}
