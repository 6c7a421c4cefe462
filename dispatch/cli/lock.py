"""`dispatch lock`: resolve declarations to exact packages with hashes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dispatch.cli.options import ConfigChoice, config_options, json_option, open_app
from dispatch.cli.output import note, print_json

if TYPE_CHECKING:
    from dispatch.app import App
    from dispatch.lock.model import Upgrade

STALE = 2


@dataclass(frozen=True)
class Manner:
    """What is done with the locks: renewed with an upgrade or none, only checked, or digests pinned."""

    upgrade: Upgrade
    check: bool
    pins: bool


def manner_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of what is done, which it takes as one ``manner``: Manner."""

    @click.option("--upgrade", is_flag=True, help="Take the newest allowed, not what the present lock has.")
    @click.option(
        "--upgrade-package",
        "packages",
        metavar="NAME",
        multiple=True,
        help="Take the newest version allowed of this package only.",
    )
    @click.option(
        "--check", is_flag=True, help="Write nothing: say which locks are stale and why, and exit 2."
    )
    @click.option(
        "--pins",
        is_flag=True,
        help="Fix images of registries to their digests in images/pins.toml, and do nothing else.",
    )
    @functools.wraps(command)
    def packed(
        *arguments: Any, upgrade: bool, packages: tuple[str, ...], check: bool, pins: bool, **rest: Any
    ) -> Any:
        from dispatch.lock.model import Upgrade
        from dispatch.lock.requirements import normalise

        if check and (upgrade or packages or pins):
            raise click.UsageError("--check writes nothing: leave the other options out")
        if pins and packages:
            raise click.UsageError("--pins is about whole images: leave --upgrade-package out")
        wanted = Upgrade(upgrade, tuple(normalise(name) for name in packages))
        return command(*arguments, manner=Manner(wanted, check, pins), **rest)

    return packed


@click.command("lock")
@click.argument("configs", metavar="CONFIG…", nargs=-1, type=click.Path(path_type=Path))
@click.option("--image", "images", metavar="NAME", multiple=True, help="Lock this image only; a base, too.")
@manner_options
@config_options
@json_option
def command(
    configs: tuple[Path, ...], images: tuple[str, ...], manner: Manner, choice: ConfigChoice, as_json: bool
) -> None:
    """Resolve what CONFIG's images declare, into lock files to commit.

    CONFIG may be the folder of an image, such as images/NAME, too.
    Without --image, the base images that dispatch itself describes keep the locks they have.
    """
    if not configs and not images:
        raise click.UsageError("name a CONFIG, or an image with --image")
    app = open_app(settings=choice.settings)
    if manner.check:
        _check(app, configs, images, choice, as_json)
        return
    if manner.pins:
        renewals = iter((app.pin(configs, images, manner.upgrade.everything, choice.overlay),))
    else:
        renewals = app.lock(configs, images, manner.upgrade, choice.overlay)
    if as_json:
        rows = [{"path": str(r.path), "changed": r.changed, "summary": r.summary} for r in renewals]
        print_json({"locks": rows})
        return
    for renewal in renewals:
        note(f"{renewal.path.name}: {'written' if renewal.changed else 'unchanged'}, {renewal.summary}")
        click.echo(str(renewal.path))


def _check(
    app: App, configs: tuple[Path, ...], images: tuple[str, ...], choice: ConfigChoice, as_json: bool
) -> None:
    states = app.check_locks(configs, images, choice.overlay)
    stale = [state for state in states if state.problem]
    if as_json:
        rows = [
            {
                "image": state.image,
                "path": str(state.path),
                "fits": not state.problem,
                "problem": state.problem,
                "remedy": state.remedy,
            }
            for state in states
        ]
        print_json({"locks": rows})
    for state in [] if as_json else states:
        if state.problem:
            note(f"{state.problem}\n  → {state.remedy}")
        click.echo(f"{state.path}\t{'stale' if state.problem else 'fits'}")
    if stale:
        click.get_current_context().exit(STALE)
