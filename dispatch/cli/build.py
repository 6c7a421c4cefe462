"""`dispatch build`: the images that a configuration's steps need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dispatch.app.wish import Wish
from dispatch.cli.options import ConfigChoice, config_options, json_option, open_app
from dispatch.cli.output import note, print_json
from dispatch.cli.progress import Shown, open_progress, progress_option
from dispatch.errors import DispatchError

if TYPE_CHECKING:
    from dispatch.app import App
    from dispatch.app.images import Images
    from dispatch.app.publishing import Outlook
    from dispatch.app.pushing import PushOutlook
    from dispatch.cli.progress import Progress
    from dispatch.config import Config
    from dispatch.image.report import BuildReport


@click.command("build")
@click.argument("configs", metavar="CONFIG…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be done, and why; change nothing.")
@click.option("--explain", is_flag=True, help="Say which inputs changed since an image was last built here.")
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Images at a time."
)
@click.option("--force", is_flag=True, help="Make the images again although they are there.")
@click.option(
    "--keep-going/--fail-fast", default=True, help="After a failure, begin other images all the same, or not."
)
@click.option(
    "--renew-base", is_flag=True, help="Renew the lock of a base whose packages the archive has dropped."
)
@click.option(
    "--push",
    metavar="REGISTRY",
    help="Have the images in this registry, as REGISTRY/dispatch:TAG; build what it lacks.",
)
@click.option(
    "--publish",
    type=click.Choice(["beaker"]),
    help="Publish the images there, once for the whole workspace; print what jobs are to name.",
)
@config_options
@progress_option
@json_option
def command(
    configs: tuple[Path, ...],
    dry_run: bool,
    explain: bool,
    choice: ConfigChoice,
    shown: Shown,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Build the images of CONFIG's steps that are missing, and nothing else.

    CONFIG may be the folder of an image, such as images/NAME, too.
    """
    wish = Wish(wanted["jobs"], not wanted["keep_going"], wanted["renew_base"], wanted["force"])
    target = _Target(wanted["push"], wanted["publish"])
    target.check(wish)
    documents: list[dict[str, Any]] = []
    failures: list[DispatchError] = []
    for path in configs:
        progress = open_progress(shown)
        app = open_app(settings=choice.settings, report=progress)
        order = _Order(app, app.image_config(path, choice.overlay), wish, dry_run, explain)
        came = target.carry_out(order, progress)
        documents += came.documents
        failures += came.failures
        if not as_json:
            for name, reference in came.references.items():
                click.echo(f"{name}\t{reference}")
        if failures and wish.fail_fast:
            break
    if as_json:
        print_json({"images": documents})
    if failures:
        for failure in failures[1:]:
            note(failure.message)
        raise failures[0]


@dataclass(frozen=True)
class _Order:
    """What is to be built, and how; with ``dry_run`` only said, with ``explain`` said before."""

    app: App
    config: Config
    wish: Wish
    dry_run: bool
    explain: bool

    @property
    def images(self) -> Images:
        """The images of the configuration."""
        return self.app.images(self.config)

    @property
    def names(self) -> list[str]:
        """The names of what its steps need."""
        return list(self.config.names)

    @property
    def tells(self) -> bool:
        """Whether it is to be said what would be done."""
        return self.dry_run or self.explain


@dataclass(frozen=True)
class _Came:
    """What came of one configuration: documents for machines, a reference by name, and what failed."""

    documents: list[dict[str, Any]]
    references: Mapping[str, str]
    failures: list[DispatchError] = field(default_factory=list)


@dataclass(frozen=True)
class _Target:
    """Where the images are to be: in a registry, on Beaker, else in the engine."""

    push: str | None
    publish: str | None

    def check(self, wish: Wish) -> None:
        """Refuse what does not go together."""
        if self.push is not None and self.publish is not None:
            raise click.UsageError("--push and --publish: give one of them, then the other")
        if self.publish is not None and wish.again:
            raise click.UsageError("--force: what is on Beaker is not replaced")

    def carry_out(self, order: _Order, progress: Progress) -> _Came:
        """Have the images there, or say what that would take."""
        if self.publish is not None:
            with progress:
                return _publish(order)
        if self.push is not None:
            with progress:
                return _push(order, self.push)
        return _build(order, progress)


def _build(order: _Order, progress: Progress) -> _Came:
    """Have the images in the engine."""
    images = order.images
    plan = images.plan(order.names, order.wish)
    for name in plan.names if order.tells else ():
        for line in plan.explain(name):
            note(line)
    if order.dry_run:
        return _Came(plan.to_json(), {name: plan.of(name).tags[name] for name in plan.names})
    with progress:
        return _came(images.build(plan, order.wish))


def _publish(order: _Order) -> _Came:
    """Have the images on Beaker."""
    publishing = order.images.publishing
    publishing.check()
    if order.tells:
        outlook = publishing.outlook(order.names)
        _tell(order, outlook, [each.name for each in outlook if each.reference is None])
        if order.dry_run:
            references = {each.name: each.reference or "-" for each in outlook}
            return _Came([each.to_json() for each in outlook], references)
    return _came(publishing.provide(order.names, order.wish))


def _push(order: _Order, address: str) -> _Came:
    """Have the images in a registry."""
    pushing = order.app.pushing(order.images, address)
    if order.tells:
        outlook = pushing.outlook(order.names)
        _tell(order, outlook, [each.name for each in outlook if not each.there])
        if order.dry_run:
            references = {each.name: each.reference or "-" for each in outlook}
            return _Came([each.to_json() for each in outlook], references)
    return _came(pushing.provide(order.names, order.wish))


def _tell(order: _Order, outlook: Sequence[Outlook | PushOutlook], missing: list[str]) -> None:
    """Say of each image whether it is there, and of the others what the engine of this machine has."""
    plan = order.images.plan(missing, order.wish) if missing else None
    for each in outlook:
        note(each.line)
        for line in plan.explain(each.name) if plan is not None and each.name in missing else ():
            note(f"  {line}")


def _came(report: BuildReport) -> _Came:
    """Return what came of a build."""
    documents: list[dict[str, Any]] = []
    for name, reference in report.references.items():
        document: dict[str, Any] = {"name": name, "reference": reference}
        done = report.done.get(name)
        if done is not None:
            document.update(done=done.action.value, seconds=round(done.seconds, 3))
        documents.append(document)
    try:
        report.raise_failures()
    except DispatchError as error:
        return _Came(documents, report.references, [error])
    return _Came(documents, report.references)
