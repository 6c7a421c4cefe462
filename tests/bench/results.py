"""A result of 200 MiB, stored durably and loaded with every byte verified, against plain copies of a file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import environments
from harness import RUNS, Row, answer, milliseconds


def _ours(kind: str, title: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as place:
        found: dict[str, Any] = answer(environments.numpy(), "results", kind, place, 2 * RUNS)
    what = f"200 MiB, {title} ({', '.join(found['files'])})"
    beyond = f"{found['store_memory']:.2f} × its size in memory beside it"
    held = f"{found['load_memory']:.2f} × its size in memory"
    return [
        Row(
            f"{what}: store, over a copy with SHA-256 and fsync",
            f"{milliseconds(found['store_seconds'])}, {found['store_ratio']:.2f} ×; {beyond}",
            "≤ 1.3 ×",
        ),
        Row(
            "load it, verified, over a copy with SHA-256",
            f"{milliseconds(found['load_seconds'])}, {found['load_ratio']:.2f} ×; {held}",
            "≤ 1.3 ×",
        ),
        Row(
            "load it, verified, over reading the file into memory and SHA-256 of that",
            f"{found['whole_ratio']:.2f} ×",
        ),
    ]


def _theirs() -> Row:
    with tempfile.TemporaryDirectory() as place:
        found = answer(environments.tango() / "python", "results_tango", place, cwd=Path(place))
    figures = [
        f"{milliseconds(found[kind]['store'])} / {milliseconds(found[kind]['load'])} {title}"
        for kind, title in (("gz", "as dill and gzip, its default"), ("bare", "as dill"))
    ]
    return Row("200 MiB, bytes, Tango: store (no fsync) / load (not verified), once", "; ".join(figures))


def rows() -> list[Row]:
    """Each kind of value in a process of its own."""
    return [*_ours("array", "a NumPy array"), *_ours("bytes", "bytes"), _theirs()]
