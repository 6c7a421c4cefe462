"""What all jobs of a run share, put together from the source, the settings and what was built."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dispatch.app.source import SourceTree, WorkingTree
from dispatch.engine.base import Mount
from dispatch.environment import ImageRef
from dispatch.executor import Materials, ProcessMaterials
from dispatch.job import Clone
from dispatch.settings import Settings
from dispatch.workspace import surroundings


def for_processes(
    source: WorkingTree, settings: Settings, runtime: Path, secrets: Mapping[str, str]
) -> ProcessMaterials:
    """What processes of this machine share."""
    ref = source.snapshot.ref if source.snapshot is not None else None
    return ProcessMaterials(
        workdir=source.workdir,
        paths=source.paths,
        env=settings.env,
        commit=ref.commit if ref is not None else "",
        tree=ref.tree if ref is not None else "",
        code=source.code,
        default_format=settings.default_format,
        platform=surroundings.machine(),
        environment=surroundings.process(_without_values(sys.argv), Path(source.workdir)),
        python=sys.executable,
        runtime=runtime,
        secrets=secrets,
    )


def for_containers(
    source: SourceTree,
    settings: Settings,
    images: Mapping[str, ImageRef],
    runtimes: Mapping[str, Path],
    here: ProcessMaterials,
    mounts: Mapping[str, tuple[Mount, ...]],
    clone: Clone | None = None,
) -> Materials:
    """What containers share, and by step what is mounted into them; ``here`` is for steps that have none.

    With ``clone`` nothing is exported for them.
    """
    return Materials(
        workdir=source.workdir,
        paths=source.paths,
        env=settings.env,
        commit=source.ref.commit,
        tree=source.ref.tree,
        code=source.code,
        default_format=settings.default_format,
        images=images,
        runtimes=runtimes,
        source=None if clone is not None else source.exported,
        mounts=mounts,
        clone=clone,
        processes=here,
        secrets=here.secrets,
    )


def _without_values(command: Sequence[str]) -> list[str]:
    """The command line as it may be kept: a variable's value may be a password."""
    kept: list[str] = []
    for word in command:
        option = kept[-1] if kept else ""
        name, separator, _ = word.partition("=")
        if (option in ("-D", "--ext-var") and separator) or (word.startswith("-D") and separator):
            word = f"{name}=…"
        elif word.startswith("--ext-var=") and word.count("=") > 1:
            word = f"{name}={word.split('=')[1]}=…"
        kept.append(word)
    return kept
