"""`dispatch gc`: remove what nothing refers to. Shows it first; --apply removes it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import click

from dispatch.cli.options import json_option, open_app, workspace_option
from dispatch.cli.output import note, print_json, print_table
from dispatch.units import format_size, parse_duration


@click.command("gc")
@click.option(
    "--older-than", default="30d", show_default=True, metavar="TIME", help="Leave alone what is younger."
)
@click.option("--apply", "really", is_flag=True, help="Remove it; without this it is only shown.")
@workspace_option
@json_option
def command(older_than: str, really: bool, workspace: str | None, as_json: bool) -> None:
    """Remove results that no run names, and what ended attempts left behind."""
    from dispatch.app import upkeep

    place = open_app(workspace).workspace
    age = timedelta(seconds=parse_duration(older_than, "--older-than"))
    collection = upkeep.plan_collection(place, age, datetime.now(timezone.utc))
    items = upkeep.apply_collection(place, collection) if really else collection.items
    rows = [(each.kind.value, each.place, each.size, each.reason) for each in items]
    total = sum(row[2] for row in rows)
    if as_json:
        keys = ("kind", "place", "bytes", "reason")
        documents = [dict(zip(keys, row, strict=True)) for row in rows]
        print_json({"applied": really, "bytes": total, "items": documents})
        return
    print_table(("what", "where", "size", "why"), [(r[0], r[1], format_size(r[2]), r[3]) for r in rows])
    did = "removed" if really else "would be removed; --apply removes it"
    note(f"{format_size(total)} in {len(rows)} places {did}" if rows else "there is nothing to remove")
