"""`dispatch lock`: resolve declarations to exact packages with hashes."""

from __future__ import annotations

from pathlib import Path

import click

from dispatch.cli.options import ConfigChoice, config_options, json_option, open_app
from dispatch.cli.output import note, print_json


@click.command("lock")
@click.argument("configs", metavar="CONFIG…", nargs=-1, type=click.Path(path_type=Path))
@click.option("--image", "images", metavar="NAME", multiple=True, help="Lock this image only; a base, too.")
@click.option(
    "--upgrade", is_flag=True, help="Take the newest versions allowed, not those of the present lock."
)
@config_options
@json_option
def command(
    configs: tuple[Path, ...], images: tuple[str, ...], upgrade: bool, choice: ConfigChoice, as_json: bool
) -> None:
    """Resolve what CONFIG's images declare, into lock files to commit.

    CONFIG may be the folder of an image, such as images/NAME, too.
    Without --image, the base images that dispatch itself describes keep the locks they have.
    """
    if not configs and not images:
        raise click.UsageError("name a CONFIG, or an image with --image")
    app = open_app(settings=choice.settings)
    renewals = app.lock(configs, images, upgrade=upgrade, overlay=choice.overlay)
    if as_json:
        print_json(
            {"locks": [{"path": str(r.path), "changed": r.changed, "summary": r.summary} for r in renewals]}
        )
        return
    for renewal in renewals:
        note(f"{renewal.path.name}: {'written' if renewal.changed else 'unchanged'}, {renewal.summary}")
        click.echo(str(renewal.path))
