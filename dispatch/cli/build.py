"""`dispatch build`: the images that a configuration's steps need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dispatch.app.images import Images
from dispatch.cli.options import ConfigChoice, config_options, json_option, open_app
from dispatch.cli.output import note, print_json
from dispatch.cli.progress import Shown, open_progress, progress_option
from dispatch.errors import DispatchError
from dispatch.image.plan import BuildPlan
from dispatch.image.report import BuildReport


@click.command("build")
@click.argument("configs", metavar="CONFIG…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be done, and why; change nothing.")
@click.option("--explain", is_flag=True, help="Say which inputs changed since an image was last built here.")
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Images at a time."
)
@click.option(
    "--renew-base", is_flag=True, help="Renew the lock of a base whose packages the archive has dropped."
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
    jobs: int,
    renew_base: bool,
    publish: str | None,
    choice: ConfigChoice,
    shown: Shown,
    as_json: bool,
) -> None:
    """Build the images of CONFIG's steps that are missing, and nothing else.

    CONFIG may be the folder of an image, such as images/NAME, too.
    """
    documents: list[dict[str, object]] = []
    failures: list[DispatchError] = []
    for path in configs:
        progress = open_progress(shown)
        app = open_app(settings=choice.settings, report=progress)
        config = app.image_config(path, choice.overlay)
        images = app.images(config)
        names = list(config.names)
        if publish is not None:
            with progress:
                done, failed = _publish(images, names, _Wish(dry_run, explain, jobs, renew_base))
            documents += done
            failures += failed
            _print_references({each["name"]: each["reference"] or "-" for each in done}, as_json)
            continue
        plan = images.plan(names)
        if explain or dry_run:
            for name in plan.names:
                for line in plan.explain(name):
                    note(line)
        if dry_run:
            documents += plan.to_json()
            _print_references({name: plan.of(name).tags[name] for name in plan.names}, as_json)
            continue
        with progress:
            references, failed = _build(images, plan, jobs, renew_base)
        failures += failed
        documents += [{"name": name, "reference": reference} for name, reference in references.items()]
        _print_references(references, as_json)
    if as_json:
        print_json({"images": documents})
    if failures:
        raise failures[0]


@dataclass(frozen=True)
class _Wish:
    """How images are to be built."""

    dry_run: bool
    explain: bool
    jobs: int
    renew_base: bool


def _publish(
    images: Images, names: list[str], wish: _Wish
) -> tuple[list[dict[str, Any]], list[DispatchError]]:
    """Publish, or say what that would do: a document for each name, and what went wrong."""
    publishing = images.publishing
    publishing.check()
    if wish.explain or wish.dry_run:
        outlook = publishing.outlook(names)
        missing = [each.name for each in outlook if each.reference is None]
        plan = images.plan(missing) if missing else None
        for each in outlook:
            note(each.line)
            for line in plan.explain(each.name) if plan is not None and each.name in missing else ():
                note(f"  {line}")
        if wish.dry_run:
            return [each.to_json() for each in outlook], []
    report = publishing.provide(names, wish.jobs, renew_base=wish.renew_base)
    done = [{"name": name, "reference": reference} for name, reference in report.references.items()]
    return done, _failed(report)


def _print_references(references: dict[str, str], as_json: bool) -> None:
    if not as_json:
        for name, reference in references.items():
            click.echo(f"{name}\t{reference}")


def _build(
    images: Images, plan: BuildPlan, jobs: int, renew_base: bool
) -> tuple[dict[str, str], list[DispatchError]]:
    report = images.build(plan, jobs, renew_base=renew_base)
    return dict(report.references), _failed(report)


def _failed(report: BuildReport) -> list[DispatchError]:
    try:
        report.raise_failures()
    except DispatchError as error:
        return [error]
    return []
