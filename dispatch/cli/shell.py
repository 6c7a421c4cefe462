"""`dispatch shell`: a shell, or one command, in exactly what a step would run in."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dispatch._docker.terminal import Descriptors
from dispatch.app.running import Running, RunRequest
from dispatch.app.shell import Shell, Wanted
from dispatch.cli.adhoc import WithWords, words
from dispatch.cli.options import ConfigChoice, config_argument, config_options, open_app, workspace_option
from dispatch.cli.output import note
from dispatch.cli.plan import image_of

if TYPE_CHECKING:
    from dispatch.engine.base import JobSpec


class _ShellCommand(WithWords):
    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND…]"]


@click.command("shell", cls=_ShellCommand)
@config_argument
@click.argument("step")
@workspace_option
@click.option(
    "-i", "--include-package", "packages", metavar="MODULE", multiple=True, help="Import this module, too."
)
@click.option("--print", "shown", is_flag=True, help="Print what the shell would be given; open none.")
@config_options
def command(config: Path, step: str, workspace: str | None, choice: ConfigChoice, **wanted: Any) -> None:
    """Open a shell in what STEP of CONFIG would run in, or run COMMAND there.

    It has the step's image, a private copy of the source, its inputs, its work directory, its variables and
    its limits. What it leaves in DISPATCH_OUTPUT_DIR is thrown away: nothing is committed.
    """
    app = open_app(workspace, choice.settings)
    # As if it were to be run, whether it has a result or not: its mounts and limits are those of a run.
    request = RunRequest(
        config, targets=(step,), packages=wanted["packages"], again=True, overlay=choice.overlay
    )
    running = Running(app, request)
    user = Descriptors()
    try:
        plan = running.prepare(may_build=True)
        term = app.surroundings.environ.get("TERM", "") if user.terminal else ""
        shell = Shell(app, running, plan, Wanted(shlex.quote(str(config)), step, words() or (), term))
        if shell.secrets:
            note(f"{step}: secrets are not given to a shell: {', '.join(shell.secrets)}")
        with shell.prepared() as job:
            if wanted["shown"]:
                for line in _lines(job, image_of(shell.planned)):
                    click.echo(line)
                return
            if user.terminal:
                note(f"{step}: nothing is committed; DISPATCH_OUTPUT_DIR is thrown away at the end")
            code = shell.run(job, user)
    finally:
        running.close()
    click.get_current_context().exit(code)


def _lines(job: JobSpec, image: str) -> Iterator[str]:
    """What a session is given, for people."""
    yield f"image: {image}"
    yield f"command: {shlex.join(job.command)}"
    yield f"directory: {job.working_dir}"
    yield f"network: {job.network.value}"
    for name, limit in vars(job.resources).items():
        yield f"{name.replace('_', ' ')}: {' '.join(limit) if isinstance(limit, tuple) else limit or '-'}"
    for mount in job.mounts:
        source = getattr(mount.source, "path", mount.source)
        private = Path(str(source)).is_relative_to(job.attempt_dir)
        mode = "read-only" if mount.read_only else "writable"
        yield f"mount: {mount.target} ({mode}): {'private' if private else source}"
    for name, value in job.env.items():
        yield f"env: {name}={value}"
