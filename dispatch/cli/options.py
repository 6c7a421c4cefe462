"""Options that several commands share, and the opening of the application from the process's surroundings."""

from __future__ import annotations

from pathlib import Path

import click

from dispatch.app import App
from dispatch.cli.output import note

workspace_option = click.option(
    "-w", "--workspace", metavar="URL", help="The workspace: a directory or a URL; wins over the settings."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
config_argument = click.argument("config", type=click.Path(path_type=Path, dir_okay=False))


def open_app(workspace: str | None = None) -> App:
    """Open the application for the current directory; prints the notices of the settings on stderr."""
    app = App.open(Path.cwd(), workspace, say=note)
    if not app.surroundings.colour:
        click.get_current_context().color = False
    for line in app.settings.notices:
        note(line)
    return app
