"""Renders every variant of a Dockerfile into a directory, by default the golden one beside this file.

``make golden`` runs it to renew the golden files. A new template or a new branch in one needs a variant here.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dispatch.environment import DockerfileImage, Extras
from dispatch.image.rendering import rendered
from dispatch.image.wheels import rendered_stage

GOLDEN = Path(__file__).parent / "dockerfile"

HOSTILE = 'it\'s "$HOME" `id`\n${PATH} \\ *;#é\\'


def variants() -> dict[str, str]:
    """Return every variant by its file name."""

    def steps(more: Extras) -> str:
        return rendered(DockerfileImage(None, None, "base", more=more))

    return {
        "apt.dockerfile": steps(Extras(apt=("git", "libc6-dev"))),
        "run.dockerfile": steps(Extras(run=("python -m nltk.downloader punkt", "make\nmake install"))),
        "sdists.dockerfile": rendered_stage(["nltk", "warp-lm"], "/usr/bin/python3.11"),
        "hostile.dockerfile": steps(
            Extras(apt=("g++",), run=(HOSTILE,), env=(("A", HOSTILE), ("B", "")), user=HOSTILE)
        ),
    }


def write(directory: Path) -> None:
    """Write the variants, and nothing else, into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        path.unlink()
    for name, text in variants().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
