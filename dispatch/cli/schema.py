"""`dispatch schema`: JSON Schemas of the files that users write."""

from __future__ import annotations

import json

import click


@click.command("schema")
@click.argument("file", required=False, type=click.Choice(["settings", "experiment", "image"]))
def command(file: str | None) -> None:
    """Print the JSON Schema of a FILE: dispatch.yml, a configuration of steps, or an image.yml.

    Without FILE it is that of any of them. Editors complete and check what they have a schema of.
    """
    from dispatch.config.schema import schema_of

    click.echo(json.dumps(schema_of(file), indent=2, ensure_ascii=False))
