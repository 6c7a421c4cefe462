"""`dispatch logs`: what a step printed."""

from __future__ import annotations

import sys

import click

from dispatch.cli.options import open_app, workspace_option


@click.command("logs")
@click.argument("run")
@click.argument("step")
@workspace_option
def command(run: str, step: str, workspace: str | None) -> None:
    """Print the log of STEP in RUN (`latest` is a run, too)."""
    import shutil

    with open_app(workspace).log(run, step).open("rb") as log:
        shutil.copyfileobj(log, sys.stdout.buffer)
    sys.stdout.flush()
