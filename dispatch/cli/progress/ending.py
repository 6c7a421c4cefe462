"""The end of a run, told to whoever reads it: the table, or JSON, on stdout; the rest on stderr; Markdown.

Owns the order and the columns; the numbers are ``progress.summary``'s.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dispatch.cli.output import iso, note, print_json, print_table
from dispatch.cli.plan import image_of
from dispatch.cli.progress.summary import Account, StepEnd, account, ends
from dispatch.dispatcher import Verdict
from dispatch.units import format_duration

if TYPE_CHECKING:
    from dispatch.app import App
    from dispatch.app.running import RunSummary
    from dispatch.cli.progress import Progress
    from dispatch.workspace.base import Workspace


@dataclass(frozen=True)
class Ended:
    """A run that has ended after ``seconds``; ``workspace`` is how the user named it, if at all."""

    summary: RunSummary
    app: App
    seconds: float
    workspace: str | None = None


def tell_end(ended: Ended, progress: Progress, *, as_json: bool) -> bool:
    """Tell all of a run's end, and return whether every step has its result."""
    summary, app = ended.summary, ended.app
    found = ends(summary, app.workspace)
    counted = account(summary, progress.story, app.workspace, ended.seconds)
    _print_summary(found, counted, as_json)
    facts = {"run": counted.run, "state": counted.state, **counted.to_json()}
    progress.concluded(facts, [] if as_json else counted.lines())
    if app.surroundings.step_summary is not None:
        _append_markdown(app.surroundings.step_summary, found, counted, app.workspace)
    if summary.state == "completed":
        return True
    if not progress.for_programs:
        _print_failures(summary, app.workspace, ended.workspace)
    return False


def _print_summary(found: Sequence[StepEnd], account: Account, as_json: bool) -> None:
    if not as_json:
        rows = [
            (
                end.name,
                end.state,
                format_duration(end.seconds) if end.seconds is not None else "-",
                image_of(end.step),
                end.result if end.result is not None else end.reason,
            )
            for end in found
        ]
        print_table(("step", "state", "time", "image", "result"), rows)
        return
    documents = []
    for end in found:
        info = end.info
        documents.append(
            {
                "name": end.name,
                "id": end.step.record.unique_id if end.step.record is not None else None,
                "verdict": end.state,
                "reason": end.reason,
                "image": end.step.image,
                "image_id": info.attempt.image_digest if info is not None and info.attempt else None,
                "started": iso(info.start_time) if info is not None else None,
                "ended": iso(info.end_time) if info is not None else None,
                "seconds": end.seconds,
                "result": end.result,
            }
        )
    print_json({"run": account.run, "state": account.state, **account.to_json(), "steps": documents})


def _append_markdown(path: Path, found: Sequence[StepEnd], account: Account, workspace: Workspace) -> None:
    """Leave a summary where GitHub Actions shows it; what keeps it from being written is only said."""
    from dispatch.cli.progress.github import StepRow, append

    rows = []
    for end in found:
        failed, record = end.state == Verdict.FAILED.value, end.step.record
        time = format_duration(end.seconds) if end.seconds is not None else "-"
        log = workspace.log_path(record.unique_id) if failed and record is not None else None
        attempts = account.attempts.get(end.name, 1 if end.state == Verdict.COMPLETED.value or failed else 0)
        rows.append(StepRow(end.name, end.state, time, image_of(end.step), attempts, failed, end.reason, log))
    failure = append(path, account, rows)
    if failure is not None:
        note(failure)


def _print_failures(summary: RunSummary, workspace: Workspace, named: str | None) -> None:
    """Say of each failed step what failed, with the step's own traceback, and where its log is."""
    for name, outcome in summary.outcomes.items():
        if outcome.verdict is not Verdict.FAILED:
            continue
        facts = outcome.info.attempt if outcome.info is not None else None
        phase = f" in the phase {facts.phase!r}" if facts is not None and facts.phase else ""
        click.echo(
            click.style("error: ", fg="red", bold=True) + f"step {name!r} failed{phase}: {outcome.reason}",
            err=True,
        )
        traceback = facts.exception["traceback"].rstrip() if facts is not None and facts.exception else ""
        # An error of ours in the container comes without a stack: it is the reason over again.
        if traceback and traceback != outcome.reason:
            click.echo(traceback, err=True)
        record = summary.plan[name].record
        # A step that was refused before it could start has no log to look at.
        if record is not None and workspace.log_path(record.unique_id) is not None:
            where = f" -w {shlex.quote(named)}" if named is not None else ""
            click.echo(
                click.style("log: ", bold=True) + f"dispatch logs {summary.name} {name}{where}", err=True
            )
