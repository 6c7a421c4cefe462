"""`dispatch init`: write a working starting point, and say what to run next."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dispatch.app.start import IGNORE, plan_start, write_start
from dispatch.cli.output import note
from dispatch.settings import read_environment


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=True), default=Path())
@click.option("--image", is_flag=True, help="Give the steps an image of their own, built from a lock.")
@click.option("--dry-run", is_flag=True, help="Print what would be written; write nothing.")
def command(directory: Path, image: bool, dry_run: bool) -> None:
    """Write settings, an experiment and its steps into DIRECTORY (default: here), and say what to run next.

    No file is overwritten, and nothing is asked.
    """
    here = Path.cwd()
    target = Path(os.path.normpath(here / directory))
    start = plan_start(target, here, read_environment(), image=image)
    if dry_run:
        for name, text in start.files.items():
            click.echo(f"--- {name}\n{text}")
        if start.ignored:
            click.echo(f"--- {IGNORE} (added)\n" + "\n".join(start.ignored))
        return
    write_start(start)
    for name in start.files:
        note(f"wrote {name}")
    if start.ignored:
        note(f"added to {IGNORE}: {', '.join(start.ignored)}")
    note("next:")
    for line in start.commands:
        click.echo(line)
