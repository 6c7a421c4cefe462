"""Building an environment of some twenty packages: cold, with warm caches, and with nothing to do."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from harness import DISPATCH, ENVIRON, RUNS, Row, median, milliseconds, seconds

REQUIREMENTS = "attrs click jinja2 numpy packaging pyyaml requests rich six tqdm typing-extensions"


def _repository(root: Path) -> Path:
    root.mkdir()
    (root / "requirements.in").write_text("\n".join(REQUIREMENTS.split()))
    image = {"pip": "requirements.in", "base": "debian-python"}
    steps = {"one": {"type": "shell", "command": "true"}}
    (root / "experiment.yml").write_text(
        json.dumps({"image": "bench", "images": {"bench": image}, "steps": steps})
    )
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    seconds([DISPATCH, "lock", "experiment.yml"], cwd=root)
    return root


def _remove_image(reference: str) -> None:
    subprocess.run(["docker", "image", "rm", "--force", reference], check=True, capture_output=True)


def rows() -> list[Row]:
    """Measure with caches of the benchmark's own; the base is in the engine already."""
    with tempfile.TemporaryDirectory() as place:
        repository = _repository(Path(place) / "r")
        pins = (repository / "requirements.lock").read_text().count("==")
        env = {**ENVIRON, "XDG_CACHE_HOME": f"{place}/cache", "UV_CACHE_DIR": f"{place}/uv"}
        build = [DISPATCH, "build", "experiment.yml"]
        printed = subprocess.run(build, cwd=repository, env=env, check=True, capture_output=True, text=True)
        reference = printed.stdout.split("\t")[1].strip()

        def cold() -> float:
            _remove_image(reference)
            # Missing where an earlier benchmark's image was still there and the first build made nothing.
            shutil.rmtree(f"{place}/cache", ignore_errors=True)
            shutil.rmtree(f"{place}/uv", ignore_errors=True)
            return seconds(build, cwd=repository, env=env)

        def warm() -> float:
            _remove_image(reference)
            shutil.rmtree(f"{place}/cache/dispatch/layers")
            return seconds(build, cwd=repository, env=env)

        colds = statistics.median(cold() for _ in range(RUNS))
        warms = median(warm)
        nothing = median(lambda: seconds(build, cwd=repository, env=env))
        layers = sum(path.stat().st_size for path in Path(place).glob("cache/dispatch/layers/*.tar"))
        _remove_image(reference)
    size = f"{pins} packages, {layers / 2**20:.0f} MiB of layers"
    return [
        Row(f"environment of {size}: all caches cold", f"{colds:.1f} s"),
        Row("the same, wheels and their bytecode cached", f"{warms:.1f} s", "≤ 3 s"),
        Row("the same, nothing changed", milliseconds(nothing), "≤ 200 ms"),
    ]
