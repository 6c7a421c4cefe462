"""`dispatch result`: a step's result, printed where it is JSON or text, else the path of it."""

from __future__ import annotations

import click

from dispatch.cli.options import json_option, open_app, workspace_option
from dispatch.cli.output import print_json


@click.command("result")
@click.argument("run")
@click.argument("step")
@workspace_option
@json_option
@click.option("--path", "only_path", is_flag=True, help="Print the path of the result's directory alone.")
def command(run: str, step: str, workspace: str | None, as_json: bool, only_path: bool) -> None:
    """Print the result of STEP in RUN (`latest` is a run, too)."""
    found = open_app(workspace).result(run, step)
    if as_json:
        print_json({"step": step, "path": str(found.path), "format": found.format, "text": found.text})
    elif only_path or found.text is None:
        click.echo(str(found.path))
    else:
        click.echo(found.text, nl=not found.text.endswith("\n"))
