"""`dispatch runs`: the runs of the workspace, newest first."""

from __future__ import annotations

import click

from dispatch.app import App
from dispatch.app.records import ORPHANED
from dispatch.cli.options import json_option, open_app, workspace_option
from dispatch.cli.output import iso, moment, note, print_json, print_table
from dispatch.cli.status import CLIENT_GONE


@click.command("runs")
@workspace_option
@json_option
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="List at most so many."
)
def command(workspace: str | None, as_json: bool, limit: int) -> None:
    """List the runs of the workspace, newest first."""
    app: App = open_app(workspace)
    rows = app.runs(limit)
    if as_json:
        print_json(
            {
                "runs": [
                    {"name": row.name, "started": iso(row.started), "state": row.state, "steps": row.steps}
                    for row in rows
                ]
            }
        )
        return
    print_table(
        ("run", "started", "state", "steps"),
        [(r.name, moment(r.started), r.state, str(r.steps)) for r in rows],
    )
    for row in rows:
        if row.state == ORPHANED:
            note(f"run {row.name}: {CLIENT_GONE.format(row.name)}")
