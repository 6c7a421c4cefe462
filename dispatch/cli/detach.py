"""`dispatch run --detach`: what the command's two halves print, and their exit codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import click

from dispatch.app import App
from dispatch.cli.output import print_json

if TYPE_CHECKING:
    from dispatch.app.detaching import Parent
    from dispatch.cli.progress import Shown


def detached(app: App, as_json: bool) -> Callable[[str], None]:
    """Let the rest of the command happen in a child without the terminal.

    Returns in the child alone: what is to be called with the run's name once it is registered. The parent
    prints that name and exits; where the child ends before, with the child's exit code.
    """
    from dispatch.app.detaching import Child, detach, refuse_impossible

    # Not the workspace itself: a connection that is open does not come through a fork.
    refuse_impossible(app.workspace_setting)
    half = detach()
    if not isinstance(half, Child):
        _print_name(half, as_json)
    gone = False

    def begun(run: str) -> None:
        nonlocal gone
        # A client that takes a run over begins it a second time.
        if not gone:
            gone = True
            half.let_go(run, app.workspace.run_log(run))

    return begun


def lines_of(shown: Shown) -> Shown:
    """The progress of what is detached: lines in its log, unless the user wants fewer, or JSON."""
    return replace(shown, mode="plain") if shown.mode in ("auto", "live") else shown


def _print_name(parent: Parent, as_json: bool) -> NoReturn:
    context = click.get_current_context()
    run, code = parent.wait()
    if run is None:
        context.exit(code)
    if as_json:
        print_json({"run": run})
    else:
        click.echo(run)
    context.exit(0)
