"""`dispatch repair`: mend what `dispatch check` finds, and lose nothing."""

from __future__ import annotations

import click

from dispatch.cli.options import json_option, open_app, workspace_option
from dispatch.cli.output import note, print_json, print_table


@click.command("repair")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and stop.")
@workspace_option
@json_option
def command(dry_run: bool, workspace: str | None, as_json: bool) -> None:
    """Set damaged results aside (they are computed anew), and make links and records right again."""
    from dispatch.app import upkeep

    place = open_app(workspace).workspace
    repairs = upkeep.plan_repair(place)
    actions = repairs.actions if dry_run else upkeep.apply_repair(place, repairs)
    rows = [(each.action.value, each.place, each.reason) for each in actions]
    if as_json:
        keys = ("action", "place", "reason")
        print_json({"applied": not dry_run, "repairs": [dict(zip(keys, row, strict=True)) for row in rows]})
    elif rows:
        print_table(("action", "where", "why"), rows)
        note("nothing was changed" if dry_run else "done")
    else:
        note("there is nothing to repair")
