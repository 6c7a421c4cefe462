"""Graphs of steps whose results tell how they were made, and a runner for them that is no dispatcher.

It does what a dispatcher does to a workspace, one step after the other, in the calling process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from dispatch.info import AttemptFacts, StepRecord, StepState
from dispatch.workspace.base import Attempt, StepCompletedError, StepHeldError, Workspace

Graph = Mapping[str, tuple[str, ...]]

DIAMOND: Graph = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}


def record_in(graph: Graph, name: str) -> StepRecord:
    """The record of a step."""
    needs = tuple(f"Made-{need}" for need in graph[name])
    return StepRecord(name, f"Made-{name}", "Made", "made", None, True, True, needs, {"type": "made"})


def right_result(graph: Graph, name: str) -> str:
    """What the step's result has to be."""
    return f"{name}({','.join(right_result(graph, need) for need in graph[name])})"


def text_of(workspace: Workspace, unique_id: str) -> str | None:
    """What a step's result is, None where there is none."""
    location = workspace.locate(unique_id)
    return None if location is None else (Path(getattr(location, "path")) / "text").read_text()  # noqa: B009


@dataclass(frozen=True)
class Runner:
    """Runs a graph in dependency order (in which it has to be given).

    ``fails`` are steps that fail, ``replaces`` those computed though they have a result. Each computation
    appends its attempt's key to the file ``ledger``. While somebody else works at a step it waits with
    ``pause``. A result has so many files of ``padding``, of 64 KiB each.
    """

    graph: Graph
    ledger: Path | None = None
    fails: frozenset[str] = frozenset()
    replaces: frozenset[str] = frozenset()
    pause: Callable[[], None] = lambda: time.sleep(0.005)
    padding: int = 0

    def run(self, workspace: Workspace, name: str | None = None) -> bool:
        """Run it all, and say whether every step has its result; those behind a failed one are skipped."""
        records = [record_in(self.graph, step) for step in self.graph]
        run = workspace.register_run(records[-1:], name, jobs=records).name
        done: set[str] = set()
        for step, needs in self.graph.items():
            if done.issuperset(needs) and self._step(workspace, step, run):
                done.add(step)
        succeeded = len(done) == len(self.graph)
        workspace.finish_run(run, "completed" if succeeded else "failed")
        return succeeded

    def _step(self, workspace: Workspace, name: str, run: str) -> bool:
        record = record_in(self.graph, name)
        while True:
            try:
                attempt = workspace.claim(record, run, replace=name in self.replaces)
                break
            except StepCompletedError:
                return True
            except StepHeldError:
                self.pause()
        started = datetime.now(timezone.utc)
        if name in self.fails:
            workspace.fail(
                attempt, record, AttemptFacts(StepState.FAILED, started, started, error="meant to")
            )
            return False
        self._compute(workspace, name, attempt)
        workspace.commit(
            attempt, record, AttemptFacts(StepState.COMPLETED, started, datetime.now(timezone.utc))
        )
        return True

    def _compute(self, workspace: Workspace, name: str, attempt: Attempt) -> None:
        if self.ledger is not None:
            handle = os.open(self.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.write(handle, f"{attempt.key}\n".encode())
            os.close(handle)
        needs = [text_of(workspace, f"Made-{need}") or "?" for need in self.graph[name]]
        attempt.result.mkdir(parents=True, exist_ok=True)
        (attempt.result / "text").write_text(f"{name}({','.join(needs)})")
        for number in range(self.padding):
            (attempt.result / f"padding{number}").write_bytes(bytes(1 << 16))
