"""`dispatch run`: run a configuration's steps, each in its own image, and print what came out."""

from __future__ import annotations

import time
from pathlib import Path

import click

from dispatch.app.records import LATEST
from dispatch.app.running import Running, RunRequest
from dispatch.cli.adhoc import CommandChoice, ConfigOrCommand, check_form, command_options
from dispatch.cli.detach import detached, lines_of
from dispatch.cli.options import (
    ConfigChoice,
    config_options,
    json_option,
    open_app,
    workspace_option,
)
from dispatch.cli.plan import show_plan
from dispatch.cli.progress import Shown, open_progress, progress_options
from dispatch.cli.progress.ending import Ended, tell_end
from dispatch.cli.progress.watching import watched


@click.command("run", cls=ConfigOrCommand)
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False), required=False)
@workspace_option
@click.option("-n", "--name", help="The run's name; one is invented without it.")
@click.option(
    "-s", "--step", "steps", metavar="STEP", multiple=True, help="Run only this step and what it needs."
)
@click.option(
    "-i", "--include-package", "packages", metavar="MODULE", multiple=True, help="Import this module, too."
)
@click.option("-j", "--jobs", type=int, help="Steps at a time; -1: as many as fit.")
@click.option(
    "--rerun-changed", is_flag=True, help="Run again what other code computed, and all that depends on it."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop; build and run nothing.")
@click.option(
    "--detach", is_flag=True, help="Print the run's name once it has begun, and let it go on without us."
)
@config_options
@command_options
@progress_options
@json_option
def command(
    config: Path | None,
    workspace: str | None,
    name: str | None,
    steps: tuple[str, ...],
    packages: tuple[str, ...],
    jobs: int | None,
    rerun_changed: bool,
    dry_run: bool,
    detach: bool,
    choice: ConfigChoice,
    adhoc: CommandChoice,
    shown: Shown,
    as_json: bool,
) -> None:
    """Run the steps of CONFIG, each in its own image, or here where it names none; or one COMMAND.

    Steps that have a result are not run again. COMMAND is one step, from the repository and the directory
    that you are in; several words are quoted as they are, a single one is a line for the shell.
    """
    check_form(config, adhoc)
    if jobs is not None and jobs < 1 and jobs != -1:
        raise click.BadParameter("takes a number from 1, or -1 for no limit", param_hint="--jobs")
    if name == LATEST:
        raise click.BadParameter(f"{LATEST!r} always means the newest run", param_hint="--name")
    if detach and dry_run:
        raise click.UsageError("--dry-run runs nothing that could be detached")
    began = time.monotonic()
    # What is detached has no terminal to draw on.
    progress = open_progress(lines_of(shown) if detach else shown)
    app = open_app(workspace, choice.settings, progress)
    begun = detached(app, as_json) if detach else lambda _: None
    asked = adhoc.request(Path.cwd()) if config is None else config
    request = RunRequest(asked, name, steps, packages, jobs, rerun_changed, choice.overlay)
    running = Running(app, request)
    try:
        with progress:
            plan = running.prepare(may_build=not dry_run)
            if not dry_run:
                observer = progress.watch(watched(running, plan, app.workspace))
                summary = running.execute(plan, observer, begun)
        if dry_run:
            show_plan(running, plan, as_json)
            return
    finally:
        running.close()
    if not tell_end(Ended(summary, app, time.monotonic() - began, workspace), progress, as_json=as_json):
        click.get_current_context().exit(1)
