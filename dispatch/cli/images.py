"""`dispatch images`: what the engine holds of ours, and the removal of what nobody needs any more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from dispatch.cli.options import json_option, open_app
from dispatch.cli.output import iso, moment, note, print_json, print_table
from dispatch.units import format_size, parse_duration, parse_size

if TYPE_CHECKING:
    from dispatch.image.holdings import Held
    from dispatch.image.prune import Bounds, Item


@click.group("images", invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the images that dispatch built and the engine holds, the last used first."""
    if context.invoked_subcommand is None:
        _list(as_json)


@command.command("list")
@json_option
def listing(as_json: bool) -> None:
    """The same."""
    _list(as_json)


def _list(as_json: bool) -> None:
    from dispatch.app import imagelist

    holdings = imagelist.held(open_app())
    total = holdings.total()
    if as_json:
        print_json({"images": [_document(image) for image in holdings.images], "bytes": total})
        return
    rows = [
        (
            image.title,
            image.digest[:16],
            format_size(image.size),
            format_size(image.shared),
            moment(_time(image.last)),
            ", ".join(_users(image)) or "-",
        )
        for image in holdings.images
    ]
    print_table(("image", "digest", "size", "shared", "last used", "used by"), rows)
    note(f"{format_size(total)} in {len(rows)} images, shared layers counted once")


@command.command("prune")
@click.option("--older-than", metavar="TIME", help="What was not used for so long may go: 12h, 30d.")
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    metavar="N",
    help="Keep the last used N of every name; alone, all others may go.",
)
@click.option("--max-size", metavar="SIZE", help="The longest unused may go until the rest fits: 20GiB.")
@click.option("--apply", "really", is_flag=True, help="Remove it; without this it is only shown.")
@json_option
def prune(
    older_than: str | None, keep: int | None, max_size: str | None, really: bool, as_json: bool
) -> None:
    """Remove images that dispatch built and nobody needs, and cached layers. Shows it first.

    Without a bound, what was not used for 30 days. Never an image that a container has, that carries a name
    somebody else gave it, that a kept image stands on, or that dispatch did not build.
    """
    from dispatch.app import imagelist

    app = open_app()
    pruning = imagelist.plan_pruning(app, _bounds(older_than, keep, max_size))
    items, stayed = pruning.items, [(image.title, why) for image, why in pruning.kept]
    if really:
        pruned = imagelist.prune(app, pruning)
        items = pruned.items
        stayed += [(item.name, why) for item, why in pruned.stayed]
    total = sum(item.size for item in items)
    if as_json:
        kept = [{"name": name, "reason": why} for name, why in stayed]
        print_json(
            {"applied": really, "bytes": total, "items": [_item(each) for each in items], "kept": kept}
        )
        return
    print_table(("what", "name", "frees", "last used", "why"), _rows(items))
    for name, why in stayed:
        note(f"{name} stays: {why}")
    if pruning.note:
        note(pruning.note)
    did = "removed" if really else "would be removed; --apply removes it"
    note(f"{format_size(total)} in {len(items)} places {did}" if items else "there is nothing to remove")


def _rows(items: Sequence[Item]) -> list[tuple[str, ...]]:
    """One row for each thing that goes; compiled packages, of which there are hundreds, share one."""
    from dispatch.image.prune import Kind

    rows: list[tuple[str, ...]] = []
    packages: dict[str, list[Item]] = {}
    for each in items:
        if each.kind is Kind.BYTECODE:
            packages.setdefault(each.reason, []).append(each)
        else:
            last = moment(_time(each.last))
            rows.append((each.kind.value, each.name, format_size(each.size), last, each.reason))
    for reason, those in packages.items():
        last = moment(_time(max(each.last or 0.0 for each in those)))
        size = format_size(sum(each.size for each in those))
        rows.append(("compiled packages", f"{len(those)} of them", size, last, reason))
    return rows


def _bounds(older_than: str | None, keep: int | None, max_size: str | None) -> Bounds:
    from dispatch.image.prune import Bounds

    if older_than is None and keep is None and max_size is None:
        older_than = "30d"
    return Bounds(
        None if older_than is None else time.time() - parse_duration(older_than, "--older-than"),
        keep,
        None if max_size is None else parse_size(max_size, "--max-size"),
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def _users(image: Held) -> list[str]:
    declared = [f"{each.origin.name}:{each.name}" for each in image.by]
    return list(dict.fromkeys([*declared, *(f"container {user.name}" for user in image.containers)]))


def _document(image: Held) -> dict[str, Any]:
    return {
        "names": list(image.names),
        "references": list(image.record.tags),
        "image": image.id,
        "digest": image.digest,
        "bytes": image.size,
        "shared_bytes": image.shared,
        "last_used": iso(_time(image.last)),
        "declared": [{"name": each.name, "file": str(each.origin)} for each in image.by],
        "containers": [{"name": user.name, "state": user.state} for user in image.containers],
        "base": image.base or None,
    }


def _item(item: Item) -> dict[str, Any]:
    return {
        "kind": item.kind.value,
        "name": item.name,
        "image": None if item.image is None else item.image.id,
        "path": None if item.file is None else str(item.file.path),
        "bytes": item.size,
        "last_used": iso(_time(item.last)),
        "reason": item.reason,
    }
