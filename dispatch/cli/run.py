"""`dispatch run`: run a configuration's steps, each in its own image, and print what came out."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

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
from dispatch.cli.progress import LineProgress
from dispatch.dispatcher import StepOutcome, Verdict
from dispatch.location import HostPath
from dispatch.plan import Standing
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
    as_json: bool,
) -> None:
    """Run the steps of CONFIG, each in its own image, or here where it names none.

    Those that have a result are not run again.
    """
    if jobs is not None and jobs < 1 and jobs != -1:
        raise click.BadParameter("takes a number from 1, or -1 for no limit", param_hint="--jobs")
    if name == LATEST:
        raise click.BadParameter(f"{LATEST!r} always means the newest run", param_hint="--name")
    app = open_app(workspace, choice.settings)
    request = RunRequest(config, name, steps, packages, jobs, rerun_changed, choice.overlay)
    running = Running(app, request)
    try:
        plan = running.prepare(may_build=not dry_run)
        if dry_run:
            show_plan(running, plan, as_json)
            return
        with LineProgress() as progress:
            summary = running.execute(plan, progress)
    finally:
        running.close()
    _print_summary(summary, app.workspace, as_json)
    if summary.state != "completed":
        _print_failures(summary, app.workspace, workspace)
        click.get_current_context().exit(1)


def _print_summary(summary: RunSummary, workspace: Workspace, as_json: bool) -> None:
    rows, documents = [], []
    for step in summary.plan.steps:
        assert step.record is not None
        inside = StepOutcome(step.node.name, Verdict.COMPLETED, step.reason)
        outcome = summary.outcomes.get(step.node.name, inside)
        verdict = step.standing.value if outcome is inside else outcome.verdict.value
        info = outcome.info or summary.cached.get(step.record.unique_id)
        location = workspace.locate(step.record.unique_id)
        result = str(location.path) if isinstance(location, HostPath) else None
        seconds = info.duration.total_seconds() if info is not None and info.duration is not None else None
        rows.append(
            (
                step.node.name,
                verdict,
                format_duration(seconds) if seconds is not None else "-",
                image_of(step),
                outcome.reason if result is None else result,
            )
        )
        documents.append(
            {
                "name": step.node.name,
                "id": step.record.unique_id,
                "verdict": verdict,
                "reason": outcome.reason,
                "image": step.image,
                "image_id": info.attempt.image_digest if info is not None and info.attempt else None,
                "started": iso(info.start_time) if info is not None else None,
                "ended": iso(info.end_time) if info is not None else None,
                "result": result,
            }
        )
    if as_json:
        print_json({"run": summary.name, "state": summary.state, "steps": documents})
        return
    print_table(("step", "state", "time", "image", "result"), rows)
    cached = len(summary.plan.standing(Standing.CACHED))
    note(f"run {summary.name}: {summary.state}, {cached} of {len(rows)} steps cached")


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
