"""`dispatch run`: run a configuration's steps, each in its own image, and print what came out."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import click

from dispatch.app.earlier import earlier
from dispatch.app.records import LATEST
from dispatch.app.running import Running, RunRequest, RunSummary
from dispatch.cli.options import (
    ConfigChoice,
    config_argument,
    config_options,
    json_option,
    open_app,
    workspace_option,
)
from dispatch.cli.output import iso, note, print_json, print_table
from dispatch.cli.plan import image_of, show_plan
from dispatch.cli.progress import Shown, Watched, WatchedStep, open_progress, progress_options
from dispatch.cli.progress.summary import Account, StepEnd, account, ends
from dispatch.dispatcher import Verdict
from dispatch.plan import Place, RunPlan, Standing
from dispatch.units import format_duration
from dispatch.workspace.base import Workspace


@click.command("run")
@config_argument
@workspace_option
@click.option("-n", "--name", help="The run's name; one is invented without it.")
@click.option(
    "-s", "--step", "steps", metavar="STEP", multiple=True, help="Run only this step and what it needs."
)
@click.option(
    "-i", "--include-package", "packages", metavar="MODULE", multiple=True, help="Import this module, too."
)
@click.option("-j", "--jobs", type=int, help="Steps at a time; -1: as many as fit.")
@click.option(
    "--rerun-changed", is_flag=True, help="Run again what other code computed, and all that depends on it."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop; build and run nothing.")
@config_options
@progress_options
@json_option
def command(
    config: Path,
    workspace: str | None,
    name: str | None,
    steps: tuple[str, ...],
    packages: tuple[str, ...],
    jobs: int | None,
    rerun_changed: bool,
    dry_run: bool,
    choice: ConfigChoice,
    shown: Shown,
    as_json: bool,
) -> None:
    """Run the steps of CONFIG, each in its own image, or here where it names none.

    Those that have a result are not run again.
    """
    if jobs is not None and jobs < 1 and jobs != -1:
        raise click.BadParameter("takes a number from 1, or -1 for no limit", param_hint="--jobs")
    if name == LATEST:
        raise click.BadParameter(f"{LATEST!r} always means the newest run", param_hint="--name")
    began = time.monotonic()
    progress = open_progress(shown)
    app = open_app(workspace, choice.settings, progress)
    request = RunRequest(config, name, steps, packages, jobs, rerun_changed, choice.overlay)
    running = Running(app, request)
    try:
        with progress:
            plan = running.prepare(may_build=not dry_run)
            if not dry_run:
                observer = progress.watch(_watched(running, plan, app.workspace))
                summary = running.execute(plan, observer)
        if dry_run:
            show_plan(app, running, plan, as_json)
            return
    finally:
        running.close()
    found = ends(summary, app.workspace)
    ended = account(summary, progress.story, app.workspace, time.monotonic() - began)
    _print_summary(found, ended, as_json)
    facts = {"run": ended.run, "state": ended.state, **ended.to_json()}
    progress.concluded(facts, [] if as_json else ended.lines())
    if app.surroundings.step_summary is not None:
        _append_markdown(app.surroundings.step_summary, found, ended, app.workspace)
    if summary.state != "completed":
        if shown.mode != "json":
            _print_failures(summary, app.workspace, workspace)
        click.get_current_context().exit(1)


def _watched(running: Running, plan: RunPlan, workspace: Workspace) -> Watched:
    """What a display needs of the run."""
    todo = plan.standing(Standing.RUN)
    steps = [
        WatchedStep(
            name=step.node.name,
            unique_id=step.record.unique_id,
            image=image_of(step),
            type=step.record.type,
            needs=plan.needs(step.node.name),
        )
        for step in todo
        if step.record is not None
    ]
    contained = any(step.place is Place.CONTAINER for step in todo)
    return Watched(
        steps=steps,
        cached=len(plan.standing(Standing.CACHED)),
        width=running.engines.limit(Place.CONTAINER if contained else Place.PROCESS),
        log=workspace.attempt_log,
        usage=running.engines.usage,
        earlier=lambda: earlier(workspace, [step.name for step in steps]),
    )


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
