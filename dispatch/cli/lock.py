"""`dispatch lock`: resolve declarations to exact packages with hashes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dispatch.cli.options import ConfigChoice, config_options, json_option, open_app
from dispatch.cli.output import note, print_json

if TYPE_CHECKING:
    from dispatch.app import App
    from dispatch.lock.model import Upgrade

STALE = 2


def upgrade_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of an upgrade, which it takes as one ``upgrade``: Upgrade."""

    @click.option(
        "--upgrade", is_flag=True, help="Take the newest versions allowed, not those of the present lock."
    )
    @click.option(
        "--upgrade-package",
        "packages",
        metavar="NAME",
        multiple=True,
        help="Take the newest version allowed of this package only.",
    )
    @functools.wraps(command)
    def packed(*arguments: Any, upgrade: bool, packages: tuple[str, ...], **rest: Any) -> Any:
        from dispatch.lock.model import Upgrade
        from dispatch.lock.requirements import normalise

        wanted = Upgrade(upgrade, tuple(normalise(name) for name in packages))
        return command(*arguments, upgrade=wanted, **rest)

    return packed


@click.command("lock")
@click.argument("configs", metavar="CONFIG…", nargs=-1, type=click.Path(path_type=Path))
@click.option("--image", "images", metavar="NAME", multiple=True, help="Lock this image only; a base, too.")
@upgrade_options
@click.option("--check", is_flag=True, help="Write nothing: say which locks are stale and why, and exit 2.")
@config_options
@json_option
def command(
    configs: tuple[Path, ...],
    images: tuple[str, ...],
    upgrade: Upgrade,
    check: bool,
    choice: ConfigChoice,
    as_json: bool,
) -> None:
    """Resolve what CONFIG's images declare, into lock files to commit.

    CONFIG may be the folder of an image, such as images/NAME, too.
    Without --image, the base images that dispatch itself describes keep the locks they have.
    """
    if not configs and not images:
        raise click.UsageError("name a CONFIG, or an image with --image")
    if check and (upgrade.everything or upgrade.packages):
        raise click.UsageError("--check writes nothing: leave --upgrade and --upgrade-package out")
    app = open_app(settings=choice.settings)
    if check:
        _check(app, configs, images, choice, as_json)
        return
    renewals = app.lock(configs, images, upgrade, choice.overlay)
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
