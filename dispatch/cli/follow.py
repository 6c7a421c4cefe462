"""`dispatch follow`: watch a run that goes on elsewhere, to its end."""

from __future__ import annotations

import click

from dispatch.app import watching
from dispatch.app.records import ORPHANED, show
from dispatch.cli.options import open_app, workspace_option
from dispatch.cli.output import note
from dispatch.cli.progress import Shown, Watched, WatchedStep, open_progress, progress_options
from dispatch.cli.progress.watching import logs_of
from dispatch.cli.show import print_report
from dispatch.errors import EngineError
from dispatch.workspace.base import Workspace
from dispatch.workspace.journal import section

NOT_WATCHING = "not watching any more: run {0} goes on (`dispatch cancel {0}` ends it)"


@click.command("follow")
@click.argument("run", default="latest")
@workspace_option
@progress_options
def command(run: str, workspace: str | None, shown: Shown) -> None:
    """Show the progress of RUN (default: the latest) until it ends, with its exit code.

    Ctrl-C ends the watching, not the run.
    """
    progress = open_progress(shown)
    here = open_app(workspace, report=progress).workspace
    name = watching.watched(here, run)
    try:
        with progress:
            watch = watching.follow(here, name, progress.watch(_watched(here, name)))
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


def _watched(here: Workspace, run: str) -> Watched:
    """What a display needs of a run that somebody else drives; nobody here knows what its jobs use."""
    views = watching.views(section(here.journal(run).read())).values()
    steps = [
        WatchedStep(view.planned.name, view.planned.unique_id, view.planned.image or "here")
        for view in views
        if view.planned.standing == "run"
    ]
    cached = sum(view.planned.standing == "cached" for view in views)
    return Watched(steps=steps, cached=cached, log=logs_of(here))
