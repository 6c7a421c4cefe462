"""How long the command takes to answer, over bare Python."""

from __future__ import annotations

import sys

from harness import DISPATCH, Row, milliseconds, paired, seconds


def rows() -> list[Row]:
    """`dispatch --help` and `import dispatch`."""
    bare = lambda: seconds([sys.executable, "-c", "pass"])  # noqa: E731
    imported, python = paired(lambda: seconds([sys.executable, "-c", "import dispatch"]), bare, 15)
    helped, _ = paired(lambda: seconds([DISPATCH, "--help"]), bare, 15)
    return [
        Row("`dispatch --help`", milliseconds(helped), "≤ 100 ms"),
        Row("`import dispatch` over bare Python", milliseconds(imported - python), "≤ 50 ms"),
    ]
