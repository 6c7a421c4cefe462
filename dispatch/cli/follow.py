"""`dispatch follow`: watch a run that goes on elsewhere, to its end."""

from __future__ import annotations

import click

from dispatch.app import watching
from dispatch.app.records import ORPHANED, show
from dispatch.cli.options import open_app, workspace_option
from dispatch.cli.output import note
from dispatch.cli.progress import LineProgress
from dispatch.cli.show import print_report
from dispatch.errors import EngineError

NOT_WATCHING = "not watching any more: run {0} goes on (`dispatch cancel {0}` ends it)"


@click.command("follow")
@click.argument("run", default="latest")
@workspace_option
def command(run: str, workspace: str | None) -> None:
    """Show the progress of RUN (default: the latest) until it ends, with its exit code.

    Ctrl-C ends the watching, not the run.
    """
    here = open_app(workspace).workspace
    name = watching.watched(here, run)
    try:
        with LineProgress() as progress:
            watch = watching.follow(here, name, progress)
    except KeyboardInterrupt:
        note(NOT_WATCHING.format(name))
        click.get_current_context().exit(130)
    if watch.state == ORPHANED:
        raise EngineError(
            f"run {name!r}: its client is gone",
            f"repeat its command to go on, or `dispatch cancel {name}` to end it",
        )
    print_report(show(here, name))
    if watch.state == "cancelled":
        click.get_current_context().exit(130)
    if watch.state != "completed":
        click.get_current_context().exit(1)
