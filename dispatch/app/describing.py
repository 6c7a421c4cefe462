"""Asks what steps are: of those with an image the snapshot, of those without the working tree.

Owns where each question is asked and on which ground; ``describe`` owns the questions and the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch import job as jobs
from dispatch.app.oracle import Ground, InterpreterOracle
from dispatch.app.source import SourceTree, WorkingTree
from dispatch.describe import CodeBase, Describer, Description, Question

if TYPE_CHECKING:
    from dispatch.app.runtimes import Runtimes
    from dispatch.engine.base import Engine
    from dispatch.environment import ImageRef

Provide = Callable[[str], "tuple[ImageRef, Path]"]


@dataclass(frozen=True)
class Describing:
    """What all questions of a run share.

    ``packages`` are the modules that declare steps, ``environ`` what a process of the client's interpreter
    is handed down, ``provide`` builds a named image and gives its reference and runtime, ``engine`` gives
    the engine when a container is needed, and not before.
    """

    cache: Path
    packages: tuple[str, ...]
    environ: Mapping[str, str]
    runtimes: Runtimes
    provide: Provide
    engine: Callable[[], Engine]
    say: Callable[[str], None]

    def of_images(
        self, questions: Sequence[Question], source: SourceTree, *, may_build: bool
    ) -> Mapping[str, Description]:
        """Describe steps that have an image, by the snapshot; see :meth:`Describer.describe`."""
        code = CodeBase(self.packages, source.paths, source.code, self.runtimes.own.digest)

        def ground() -> Ground:
            return self._ground(source.exported, source.workdir, jobs.CONTAINER.source)

        return self._describer(code, ground).describe(questions, may_build=may_build)

    def of_here(self, questions: Sequence[Question], source: WorkingTree) -> Mapping[str, Description]:
        """Describe steps of the current environment, by the files as they are."""
        code = CodeBase(self.packages, source.paths, source.code, self.runtimes.own.digest)

        def ground() -> Ground:
            return self._ground(Path("/"), source.workdir, "/")

        return self._describer(code, ground).describe(questions)

    def _describer(self, code: CodeBase, ground: Callable[[], Ground]) -> Describer:
        oracle = InterpreterOracle(ground, self.provide, self.engine, self.say)
        return Describer(self.cache / "describe", code, oracle)

    def _ground(self, source: Path, workdir: str, root: str) -> Ground:
        return Ground(
            runtime=self.runtimes.own.directory,
            source=source,
            workdir=workdir,
            scratch=self.cache / "scratch",
            environ=self.environ,
            root=root,
        )
