"""`dispatch build`: the images that a configuration's steps need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dispatch.app.wish import Wish
from dispatch.cli.options import ConfigChoice, config_options, json_option, open_app
from dispatch.cli.output import note, print_json, print_table
from dispatch.cli.progress import Shown, open_progress, progress_option
from dispatch.environment import RegistryDigest
from dispatch.errors import ConfigurationError, DispatchError
from dispatch.image.plan import Action
from dispatch.image.report import BuildReport

if TYPE_CHECKING:
    from dispatch.app import App
    from dispatch.app.images import Images
    from dispatch.app.publishing import Outlook
    from dispatch.app.pushing import PushOutlook
    from dispatch.cli.progress import Progress
    from dispatch.config import Config


NOTHING = BuildReport({}, {}, {})
_STATES = {
    Action.PRESENT: "present",
    Action.BUILD: "built",
    Action.FETCH: "fetched",
    Action.PULL: "pulled",
}


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
    "--oci",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Have the images in this directory (OCI layout); no engine is needed, bytecode is left out.",
)
@click.option(
    "--matrix",
    is_flag=True,
    help="Build what can be of all images, whatever is against others; end with a table.",
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
    target = _Target(wanted["push"], wanted["publish"], wanted["oci"])
    target.check(wish)
    documents: list[dict[str, Any]] = []
    failures: list[DispatchError] = []
    for path in configs:
        progress = open_progress(shown)
        app = open_app(settings=choice.settings, report=progress)
        config = app.image_config(path, choice.overlay)
        order = _Order(app, config, target.images(app, config), tuple(config.names), wish, dry_run, explain)
        came = _all(order, target, progress) if wanted["matrix"] else target.carry_out(order, progress)
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
    images: Images
    names: tuple[str, ...]
    wish: Wish
    dry_run: bool
    explain: bool

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
    report: BuildReport = NOTHING


@dataclass(frozen=True)
class _Target:
    """Where the images are to be: in a registry, on Beaker, in a directory, else in the engine."""

    push: str | None
    publish: str | None
    oci: Path | None

    def check(self, wish: Wish) -> None:
        """Refuse what does not go together."""
        if sum(each is not None for each in (self.push, self.publish, self.oci)) > 1:
            raise click.UsageError("--push, --publish and --oci: give one of them, then another")
        if self.publish is not None and wish.again:
            raise click.UsageError("--force: what is on Beaker is not replaced")

    def images(self, app: App, config: Config) -> Images:
        """The images of a configuration, as they can be there."""
        return app.images(config) if self.oci is None else app.images_in(self.oci.absolute(), config)

    def carry_out(self, order: _Order, progress: Progress) -> _Came:
        """Have the images there, or say what that would take."""
        if self.publish is not None:
            with progress:
                return _publish(order)
        if self.push is not None:
            with progress:
                return _push(order, self.push)
        came = _build(order, progress)
        if self.oci is not None:
            named = {name: f"oci:{self.oci}:{reference}" for name, reference in came.references.items()}
            return replace(came, references=named)
        return came


def _all(order: _Order, target: _Target, progress: Progress) -> _Came:
    """Have all images there that can be, and end with a table of what came of each."""
    good, refused = order.images.plannable(order.names)
    came = target.carry_out(replace(order, names=tuple(good)), progress) if good else _Came([], {})
    rows = []
    for name in order.names:
        error = refused.get(name) or came.report.failures.get(name)
        done = came.report.done.get(name)
        state = "refused" if name in refused else "failed" if error else _STATES[done.action] if done else "-"
        seconds = f"{done.seconds:.1f} s" if done and done.seconds else "-"
        rows.append((name, state, seconds, error.message if error else came.references.get(name, "-")))
    print_table(("image", "state", "time", "reference or reason"), rows, err=True)
    if not refused:
        return came
    text = f"{len(refused)} of {len(order.names)} images cannot be: {', '.join(refused)}"
    remedies = dict.fromkeys(each.remedy for each in refused.values() if each.remedy)
    return replace(came, failures=[*came.failures, ConfigurationError(text, "; ".join(remedies))])


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
        image = report.images[name]
        exact = image.reference if isinstance(image, RegistryDigest) else image.id
        document: dict[str, Any] = {"name": name, "reference": reference}
        if exact != reference:
            document["image"] = exact
        done = report.done.get(name)
        if done is not None:
            document.update(done=done.action.value, seconds=round(done.seconds, 3))
        documents.append(document)
    try:
        report.raise_failures()
    except DispatchError as error:
        return _Came(documents, report.references, [error], report)
    return _Came(documents, report.references, report=report)
