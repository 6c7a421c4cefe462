"""`dispatch check`: hold every result against its manifest."""

from __future__ import annotations

import click

from dispatch.cli.options import json_option, open_app, workspace_option
from dispatch.cli.output import note, print_json, print_table


@click.command("check")
@workspace_option
@json_option
def command(workspace: str | None, as_json: bool) -> None:
    """Verify every result's files by size and SHA-256, and the links and records beside them."""
    from dispatch.app import upkeep

    found = upkeep.check(open_app(workspace).workspace)
    if as_json:
        keys = ("place", "id", "kind", "fact", "remedy")
        rows = [(each.place, each.unique_id, each.kind.value, each.fact, each.remedy) for each in found]
        print_json({"findings": [dict(zip(keys, row, strict=True)) for row in rows]})
    elif found:
        print_table(("what", "where", "fact"), [(each.kind.value, each.place, each.fact) for each in found])
        note("`dispatch repair --dry-run` shows what can be mended")
    else:
        note("nothing is damaged")
    if found:
        click.get_current_context().exit(1)
