"""`dispatch remove`: a step's result, or a run's record. Asks first."""

from __future__ import annotations

import sys

import click

from dispatch.cli.options import open_app, workspace_option
from dispatch.cli.output import note
from dispatch.errors import ConfigurationError


@click.command("remove")
@click.argument("run", required=False)
@click.argument("step", required=False)
@click.option("--id", "unique_id", metavar="UNIQUE_ID", help="The step, wherever it was used.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@workspace_option
def command(
    run: str | None, step: str | None, unique_id: str | None, yes: bool, workspace: str | None
) -> None:
    """Remove the result of STEP in RUN, or, without STEP, the record of RUN alone."""
    from dispatch.app import upkeep

    if unique_id is not None and run is not None:
        raise click.UsageError("--id names the step: leave RUN and STEP out")
    place = open_app(workspace).workspace
    removal = upkeep.plan_removal(place, run, step, unique_id)
    if removal.unique_id is None:
        what = f"the record of run {removal.run!r} (results stay)"
    else:
        users = f", used by {', '.join(removal.runs)}" if removal.runs else ""
        what = f"the result and the records of step {removal.unique_id}{users}"
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(f"would remove {what}", "say --yes to remove it without being asked")
        click.confirm(f"Remove {what}?", abort=True, err=True)
    upkeep.remove(place, removal)
    note(f"removed {what}")
