"""`dispatch sbom`: what is in images, as SPDX."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dispatch.cli.options import ConfigChoice, config_options, open_app
from dispatch.cli.output import note


@click.command("sbom")
@click.argument("target", metavar="CONFIG|IMAGE")
@click.option("--image", "names", metavar="NAME", multiple=True, help="Of CONFIG, this image only.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it there, not to stdout."
)
@config_options
def command(target: str, names: tuple[str, ...], output: Path | None, choice: ConfigChoice) -> None:
    """Print what is in the images of CONFIG, or in IMAGE, as an SPDX 2.3 document in JSON.

    It is written from the locks, so no engine is needed and no image need be built; the same locks give the
    same document.
    """
    from dispatch.app.bill import bill
    from dispatch.app.chosen import choose

    app = open_app(settings=choice.settings)
    chosen = choose(app, target, names, choice.overlay)
    document = bill(chosen)
    for name in chosen.foreign:
        note(f"{name}: left out: no lock says what is in it")
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if output is None:
        click.echo(text)
        return
    output.write_text(text + "\n", encoding="utf-8")
    note(f"{len(document['packages'])} packages written to {output}")
