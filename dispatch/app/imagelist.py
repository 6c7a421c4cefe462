"""The images that this machine's engine holds of ours, for the commands: listed, and pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dispatch.image.cachefiles import cached_files
from dispatch.image.holdings import Holdings, survey
from dispatch.image.prune import Bounds, Item, Pruning, carry_out, plan
from dispatch.image.usage import usage_of

if TYPE_CHECKING:
    from dispatch.app import App


def held(app: App) -> Holdings:
    """What the engine holds, and who uses it."""
    return survey(app.door.stock, usage_of(app.surroundings.cache))


def plan_pruning(app: App, bounds: Bounds) -> Pruning:
    """What may go of images, and of the caches of layers and compiled packages."""
    return plan(held(app), cached_files(app.surroundings.cache), bounds)


@dataclass(frozen=True)
class Pruned:
    """What went, and what a look right before its removal let stay, with why."""

    items: tuple[Item, ...]
    stayed: tuple[tuple[Item, str], ...]


def prune(app: App, pruning: Pruning) -> Pruned:
    """Carry a plan out."""
    cache = app.surroundings.cache
    went, stayed = carry_out(pruning, app.door.stock, cache / "locks", usage_of(cache))
    return Pruned(tuple(went), tuple(stayed))
