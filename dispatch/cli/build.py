"""`dispatch build`: the images that a configuration's steps need."""

from __future__ import annotations

from pathlib import Path

import click

from dispatch.app.images import Images
from dispatch.cli.options import ConfigChoice, config_options, json_option, open_app
from dispatch.cli.output import note, print_json
from dispatch.cli.progress import Shown, open_progress, progress_option
from dispatch.errors import DispatchError
from dispatch.image.plan import BuildPlan


@click.command("build")
@click.argument(
    "configs", metavar="CONFIG…", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False)
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and why; change nothing.")
@click.option("--explain", is_flag=True, help="Say which inputs changed since an image was last built here.")
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Images at a time."
)
@click.option(
    "--renew-base", is_flag=True, help="Renew the lock of a base whose packages the archive has dropped."
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
    choice: ConfigChoice,
    shown: Shown,
    as_json: bool,
) -> None:
    """Build the images of CONFIG's steps that are missing, and nothing else."""
    documents: list[dict[str, object]] = []
    failures: list[DispatchError] = []
    for path in configs:
        progress = open_progress(shown)
        app = open_app(settings=choice.settings, report=progress)
        config = app.config(path, choice.overlay)
        images = app.images(config)
        plan = images.plan(dict.fromkeys(name for name in config.images.values() if name is not None))
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


def _print_references(references: dict[str, str], as_json: bool) -> None:
    if not as_json:
        for name, reference in references.items():
            click.echo(f"{name}\t{reference}")


def _build(
    images: Images, plan: BuildPlan, jobs: int, renew_base: bool
) -> tuple[dict[str, str], list[DispatchError]]:
    report = images.build(plan, jobs, renew_base=renew_base)
    try:
        report.raise_failures()
    except DispatchError as error:
        return dict(report.references), [error]
    return dict(report.references), []
