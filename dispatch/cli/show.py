"""`dispatch show`: the steps of a run."""

from __future__ import annotations

import click

from dispatch.cli.options import json_option, open_app, workspace_option
from dispatch.cli.output import iso, moment, print_json, print_table
from dispatch.units import format_duration


@click.command("show")
@click.argument("run", default="latest")
@workspace_option
@json_option
def command(run: str, workspace: str | None, as_json: bool) -> None:
    """Show the steps of RUN (default: the latest)."""
    report = open_app(workspace).show(run)
    if as_json:
        steps = [
            {
                "name": step.name,
                "id": step.unique_id,
                "state": step.state,
                "started": iso(step.started),
                "ended": iso(step.ended),
                "image": step.image,
                "image_id": step.image_id,
                "error": step.error,
                "result": str(step.result) if step.result else None,
                "log": str(step.log) if step.log else None,
            }
            for step in report.steps
        ]
        source = {
            "commit": report.commit,
            "dirty": report.dirty,
            "differences": [str(path) for path in report.differences],
        }
        print_json(
            {
                "run": report.name,
                "state": report.state,
                "started": iso(report.started),
                "source": source,
                "steps": steps,
            }
        )
        return
    click.echo(f"{report.name}: {report.state}, started {moment(report.started)}", err=True)
    if report.dirty:
        files = f": {', '.join(map(str, report.differences))}" if report.differences else ""
        click.echo(f"source: commit {report.commit[:12]} with uncommitted changes{files}", err=True)
    print_table(
        ("step", "state", "time", "image", "result"),
        [
            (
                step.name,
                step.state,
                format_duration(step.seconds) if step.seconds is not None else "-",
                step.image or "-",
                str(step.result or step.error or "-"),
            )
            for step in report.steps
        ],
    )
