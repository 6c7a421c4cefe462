"""`dispatch steps`: search the steps of the workspace, whichever runs they belong to."""

from __future__ import annotations

import click

from dispatch.cli.options import json_option, open_app, workspace_option
from dispatch.cli.output import iso, moment, note, print_json, print_table
from dispatch.info import StepInfo, StepState
from dispatch.units import format_duration
from dispatch.workspace.base import StepInfoSort


@click.command("steps")
@click.argument("match", required=False)
@click.option("--state", type=click.Choice([state.value for state in StepState]), help="Only these.")
@click.option(
    "--sort", type=click.Choice(["start", "id"]), default="start", show_default=True, help="The order."
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option("--all", "everything", is_flag=True, help="All that match.")
@workspace_option
@json_option
def command(
    match: str | None, state: str | None, sort: str, limit: int, everything: bool, **options: object
) -> None:
    """List the steps whose unique id contains MATCH (it begins with the name of the class), newest first."""
    from dispatch.app import upkeep

    query = upkeep.StepQuery(
        match=match,
        state=StepState(state) if state else None,
        sort=StepInfoSort.UNIQUE_ID if sort == "id" else StepInfoSort.START_TIME,
        limit=None if everything else limit,
    )
    workspace = options["workspace"]
    assert workspace is None or isinstance(workspace, str)
    found, total = upkeep.search(open_app(workspace).workspace, query)
    if options["as_json"]:
        print_json({"total": total, "steps": [_document(info) for info in found]})
        return
    print_table(("step", "state", "started", "time", "id"), [_row(info) for info in found])
    if total > len(found):
        note(f"{len(found)} of {total}; --all lists them all")


def _row(info: StepInfo) -> tuple[str, ...]:
    time = format_duration(info.duration.total_seconds()) if info.duration is not None else "-"
    return info.step_name, info.state.value, moment(info.start_time), time, info.unique_id


def _document(info: StepInfo) -> dict[str, object]:
    return {
        "name": info.step_name,
        "id": info.unique_id,
        "state": info.state.value,
        "started": iso(info.start_time),
        "ended": iso(info.end_time),
        "error": info.error,
        "result": info.result_location,
    }
