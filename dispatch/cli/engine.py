"""`dispatch engine`: set up a Docker Engine of this machine, or stop the one that was set up."""

from __future__ import annotations

import click

from dispatch.cli.options import open_app
from dispatch.cli.output import note


@click.group("engine")
def command() -> None:
    """Start or stop a Docker Engine of this machine."""


@command.command("start")
def start() -> None:
    """Use the engine that answers; where none does, install and start one (Debian or Ubuntu, as root)."""
    note(open_app().engine_setup().ensure())


@command.command("stop")
def stop() -> None:
    """Stop the engine that `start` started, and no other."""
    note(open_app().engine_setup().stop())
