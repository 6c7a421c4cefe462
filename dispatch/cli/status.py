"""`dispatch status`: what goes on: the unfinished runs, or the steps of one."""

from __future__ import annotations

import time
from typing import Any

import click

from dispatch.app.records import ORPHANED
from dispatch.app.status import RunNow, status, unfinished
from dispatch.app.watching import watched
from dispatch.cli.options import json_option, open_app, workspace_option
from dispatch.cli.output import iso, moment, note, print_json, print_table
from dispatch.units import format_duration

CLIENT_GONE = "its client is gone; repeat the command to go on, or `dispatch cancel {}` to end it"


@click.command("status")
@click.argument("run", required=False)
@workspace_option
@json_option
def command(run: str | None, workspace: str | None, as_json: bool) -> None:
    """Show the steps of RUN as they are now; without RUN, the runs that have no end yet."""
    here = open_app(workspace).workspace
    if run is not None:
        found = status(here, watched(here, run), time.time())
        _print_run(found, as_json)
        return
    runs = unfinished(here, time.time())
    if as_json:
        print_json({"runs": [_head(each) for each in runs]})
        return
    print_table(
        ("run", "state", "started", "client", "steps"),
        [
            (each.name, each.state, moment(each.started), str(each.driving or "-"), _counted(each))
            for each in runs
        ],
    )
    for each in runs:
        if each.state == ORPHANED:
            note(f"run {each.name}: {CLIENT_GONE.format(each.name)}")


def _counted(run: RunNow) -> str:
    return ", ".join(f"{count} {state}" for state, count in run.counts.items()) or "-"


def _head(run: RunNow) -> dict[str, Any]:
    driving = run.driving
    client = None
    if driving is not None:
        client = {"host": driving.host, "pid": driving.pid, "since": driving.since, "alive": driving.alive}
    return {
        "run": run.name,
        "state": run.state,
        "started": iso(run.started),
        "client": client,
        "counts": dict(run.counts),
    }


def _print_run(run: RunNow, as_json: bool) -> None:
    if as_json:
        print_json({**_head(run), "steps": [dict(vars(step)) for step in run.steps]})
        return
    client = f", {run.driving}" if run.driving is not None and run.driving.alive else ""
    note(f"{run.name}: {run.state}, started {moment(run.started)}{client}: {_counted(run)}")
    print_table(
        ("step", "state", "attempt", "time", "image", "says"),
        [
            (
                step.name,
                step.state,
                str(step.attempt or "-"),
                format_duration(step.seconds) if step.seconds is not None else "-",
                step.image or "-",
                step.last or step.reason or "-",
            )
            for step in run.steps
        ],
    )
    if run.state == ORPHANED:
        note(f"run {run.name}: {CLIENT_GONE.format(run.name)}")
