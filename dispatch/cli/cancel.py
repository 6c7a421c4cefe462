"""`dispatch cancel`: end a run, or steps of it, wherever its client is."""

from __future__ import annotations

import click

from dispatch.app.cancelling import Cancelled, Cancelling, left_behind, sender
from dispatch.app.watching import watched
from dispatch.cli.options import json_option, open_app, workspace_option
from dispatch.cli.output import note, print_json
from dispatch.units import parse_duration


@click.command("cancel")
@click.argument("run")
@click.argument("steps", metavar="[STEP]...", nargs=-1)
@click.option("--grace", metavar="TIME", help="What jobs are given to stop before they are killed.")
@workspace_option
@json_option
def command(
    run: str, steps: tuple[str, ...], grace: str | None, workspace: str | None, as_json: bool
) -> None:
    """End RUN (`latest` is a run, too), or with STEP these steps of it and what needs them.

    Returns when it has happened. Where the run's client is gone, what it left running is stopped.
    """
    app = open_app(workspace)
    name = watched(app.workspace, run)
    cancelling = Cancelling(app.workspace, lambda: left_behind(app), sender())
    done = cancelling.cancel(name, steps, None if grace is None else _seconds(grace))
    if as_json:
        print_json(
            {
                "run": done.run,
                "state": done.state or "running",
                "stopped": [
                    {"name": step, "verdict": verdict, "reason": reason}
                    for step, (verdict, reason) in done.steps.items()
                ],
            }
        )
        return
    _print(done)


def _seconds(grace: str) -> float:
    """``0`` is allowed: to be killed at once."""
    return 0.0 if grace.strip() in ("0", "0s") else parse_duration(_number(grace), "--grace")


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _print(done: Cancelled) -> None:
    for step, (verdict, _) in done.steps.items():
        click.echo(f"{step}\t{verdict}")
    for step, state in done.over.items():
        note(f"step {step}: had ended already: {state}")
    if done.state and not done.steps and not done.over:
        note(f"run {done.run}: had ended already: {done.state}")
    elif done.state:
        note(f"run {done.run}: {done.state}")
