"""How long a job's log takes to its reader, and how long the reader alone takes where all is made before."""

from __future__ import annotations

import tempfile
from pathlib import Path

from beakerservers import ONE_THREAD, PINNED, client, serving, told
from harness import Row

LINES = 200_000
WAYS = (
    ("beaker-py, as `dispatch beaker env` sets it up", ONE_THREAD, (), "≤ 8 s"),
    ("beaker-py, nothing set", {}, (), ""),
    ("beaker-py, nothing set, on one core", {}, PINNED, ""),
)


def rows() -> list[Row]:
    """Server and reader, beside the reader with a server that only sends."""
    found = []
    with (
        tempfile.TemporaryDirectory() as place,
        serving("beaker_server", Path(place) / "beaker", LINES) as beaker,
        serving("beaker_premade", Path(place) / "premade", LINES) as premade,
    ):
        for what, env, before, asked in WAYS:
            ours, floor = (
                told(client("beaker_reader", server, server["job"], env=env, before=before))
                for server in (beaker, premade)
            )
            lost = "" if ours["whole"] and ours["lines"] == LINES else f" ({ours['lines']} lines, BROKEN)"
            measured = f"{ours['seconds']:.1f} s{lost}, reader alone {floor['seconds']:.1f} s"
            found.append(Row(f"{LINES} lines of a job, streamed: {what}", measured, asked))
    return found
