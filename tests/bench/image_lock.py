"""Locking eight packages of machine learning from an empty cache: ours, uv by hand, and pip-tools.

The package index is the user's own, so these figures are those of its network, too. pip-tools is measured
once: it downloads what it resolves, which takes a minute and more.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import DISPATCH, ENVIRON, RUNS, Row, seconds, times

PACKAGES = (
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "transformers",
    "datasets",
    "tokenizers",
)


def rows() -> list[Row]:
    """Measure the three."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "r"
        root.mkdir()
        (root / "requirements.in").write_text("\n".join(PACKAGES) + "\n")
        image = {"pip": "requirements.in", "base": "debian-python"}
        steps = {"one": {"type": "shell", "command": "true"}}
        document = {"image": "bench-lock", "images": {"bench-lock": image}, "steps": steps}
        (root / "experiment.yml").write_text(json.dumps(document))
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
        env = {**ENVIRON, "UV_CACHE_DIR": f"{place}/uv", "XDG_CACHE_HOME": f"{place}/cache"}
        uv = str(Path(sys.executable).with_name("uv"))
        by_hand = [uv, "pip", "compile", "-q", "--generate-hashes", "requirements.in", "-o", "by-hand.txt"]

        def cold(command: list[str], result: str) -> float:
            shutil.rmtree(env["UV_CACHE_DIR"], ignore_errors=True)
            (root / result).unlink(missing_ok=True)
            return seconds(command, cwd=root, env=env)

        pairs = [
            (cold([DISPATCH, "lock", "experiment.yml"], "requirements.lock"), cold(by_hand, "by-hand.txt"))
            for _ in range(RUNS)
        ]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        pins = (root / "requirements.lock").read_text().count("==")
        compiling = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes"]
        options = ["--cache-dir", f"{place}/pip-tools", "--output-file", "pip-tools.txt", "requirements.in"]
        slow = seconds([*compiling, *options], cwd=root, env=env)
    return [
        Row(f"lock of {len(PACKAGES)} packages ({pins} pins), nothing cached", f"{ours:.2f} s", "≤ 2 s"),
        Row("uv pip compile of the same", f"{theirs:.2f} s; ours takes {times(ours, theirs)}"),
        Row("pip-tools of the same, once", f"{slow:.1f} s"),
    ]
