"""Entry point of the ``dispatch`` command: finds the command's module, and turns errors into exit codes."""

from __future__ import annotations

import gc
import importlib
import signal
import sys
import traceback
from types import FrameType

import click

from dispatch import __version__
from dispatch.errors import ConfigurationError, DispatchError, StepError

EXIT_STEP = 1
EXIT_CONFIGURATION = 2
EXIT_INFRASTRUCTURE = 3
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # what a shell sees of a process that SIGPIPE ended

COMMANDS = {
    "beaker": "Run a Beaker on this machine: the API of the real one, its jobs local containers.",
    "build": "Build the images that a configuration's steps need, and nothing else.",
    "cancel": "End a run, or steps of it, wherever its client is.",
    "check": "Verify every result's files, and the links and records beside them.",
    "doctor": "Check what a run needs: engine, disk, git, tools; say how to mend what is missing.",
    "engine": "Start or stop a Docker Engine of this machine.",
    "follow": "Watch a run that goes on elsewhere, to its end.",
    "gc": "Remove what no run refers to; shows it first.",
    "images": "List the images that dispatch built, and remove those that nobody needs.",
    "init": "Write a working starting point into a directory, and say what to run next.",
    "lock": "Resolve declarations to exact packages with hashes, in files to commit.",
    "logs": "Print what a step printed.",
    "plan": "Show where every step of a configuration stands, and why; builds and runs nothing.",
    "remove": "Remove a step's result, or a run's record.",
    "repair": "Mend what check finds; nothing is lost.",
    "result": "Print a step's result, or the path of it.",
    "run": "Run a configuration's steps, each in its own image, or here where it names none.",
    "runs": "List the runs of the workspace.",
    "sbom": "Print what is in images, as an SPDX document; from their locks alone.",
    "schema": "Print the JSON Schema of the files that you write, for your editor.",
    "shell": "Open a shell in what a step would run in: its image, source, inputs and work directory.",
    "show": "Show the steps of a run.",
    "status": "Show what goes on: the unfinished runs, or the steps of one.",
    "steps": "Search the steps of the workspace.",
    "verify": "Look into images: installed is what the lock says, imports work, commands start.",
    "why": "Say why a step is cached or not, and which input differs from the nearest result.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called: ``--help`` loads none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command; None if there is none of that name."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"dispatch.cli.{name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands with their help, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names; UsageError with a guess if there is none."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from dispatch.errors import did_you_mean

            ctx.fail(f"no command {name!r}{did_you_mean(name, list(COMMANDS))}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dispatch")
def group() -> None:
    """Reproducible images for every step, on any engine, and nothing computed twice."""


def exit_code(error: DispatchError) -> int:
    """The exit code of an error: 1 a step failed; 2 configuration or lock; 3 engine, disk or network."""
    if isinstance(error, StepError):
        return EXIT_STEP
    if isinstance(error, ConfigurationError):
        return EXIT_CONFIGURATION
    return EXIT_INFRASTRUCTURE


def report(error: DispatchError) -> None:
    """Print an error to stderr: the thing and the fact, then the way out."""
    from dispatch.settings.surroundings import wants_colour

    colour = None if wants_colour() else False
    click.echo(click.style("error: ", fg="red", bold=True) + error.message, err=True, color=colour)
    if error.remedy:
        click.echo(click.style("remedy: ", bold=True) + error.remedy, err=True, color=colour)


def main() -> None:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _interrupt)
    # What a command makes lives until its end: looking through it again and again for garbage takes a fifth
    # of a run of ten thousand cached steps.
    gc.set_threshold(100_000, 50, 100)
    stdout = sys.stdout
    try:
        code = group.main(standalone_mode=False)
    except DispatchError as error:
        report(error)
        code = exit_code(error)
    except click.ClickException as error:
        report(DispatchError(error.format_message(), _usage(error)))
        code = EXIT_CONFIGURATION
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        code = EXIT_INTERRUPTED
    except SystemExit:
        # Click leaves so when the reader of our output has gone, with another stdout in the place of ours.
        if sys.stdout is stdout:
            raise
        code = EXIT_UNREAD
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        report(
            DispatchError(
                f"the system refused: {error.strerror or error}{where}", "mend this, then repeat the command"
            )
        )
        code = EXIT_INFRASTRUCTURE
    except Exception as error:
        # A fault of ours: the traceback is for whoever mends it; the exit code must not say "a step failed".
        traceback.print_exc()
        fact = f"dispatch itself failed: {type(error).__name__}: {error}"
        report(DispatchError(fact, "report this with the lines above"))
        code = EXIT_INFRASTRUCTURE
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: click.ClickException) -> str:
    """Where to read what the command takes."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"see `{context.command_path if context else 'dispatch'} --help`"


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
