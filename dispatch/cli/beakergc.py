"""`dispatch beaker gc`: remove what our runs left on Beaker. Shows it first; --remove removes it."""

from __future__ import annotations

import time

import click

from dispatch.cli.options import json_option, open_app, workspace_option
from dispatch.cli.output import note, print_json, print_table
from dispatch.units import parse_duration


@click.command("gc")
@click.option(
    "--older-than",
    default="7d",
    show_default=True,
    metavar="TIME",
    help="Leave alone experiments, failed attempts, bundles and images that are younger.",
)
@click.option("--remove", "really", is_flag=True, help="Remove it; without this it is only shown.")
@click.option(
    "--watch", is_flag=True, help="First watch clients of other machines for 3 minutes: are they gone?"
)
@workspace_option
@json_option
def command(older_than: str, really: bool, watch: bool, workspace: str | None, as_json: bool) -> None:
    """Remove what your runs left on Beaker and nobody needs: never a result, nor what lives.

    That is data and secrets of jobs that are over, ended experiments whose end is recorded, failed attempts
    but the newest, bundles that no job reads, images that were never published whole, and what clients left
    that were killed.
    """
    from dispatch.app import beakergc
    from dispatch.workspace.beaker.session import STALE_AFTER

    app = open_app(workspace)
    bounds = beakergc.Bounds.at(time.time(), parse_duration(older_than, "--older-than"))
    found = []
    for place in beakergc.workspaces(app):
        items = beakergc.plan(place, bounds)
        if watch:
            # So long after the first look it shows whose heart beats.
            time.sleep(STALE_AFTER + 1)
            items = beakergc.plan(place, bounds)
        if really:
            items = beakergc.remove(place, items, bounds)
        found += [(place.url, each) for each in items]
    if as_json:
        documents = [
            {
                "workspace": url,
                "kind": each.kind.value,
                "name": each.name,
                "id": each.id,
                "reason": each.reason,
            }
            for url, each in found
        ]
        print_json({"removed": really, "items": documents})
        return
    print_table(("what", "name", "why"), [(each.kind.value, each.name, each.reason) for _, each in found])
    did = "removed" if really else "would go; --remove removes them"
    note(f"{len(found)} things {did}" if found else "there is nothing to remove")
