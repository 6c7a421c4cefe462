"""Options that several commands share, and the opening of the application from the process's surroundings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from dispatch.app import App, Overlay
from dispatch.cli.output import note
from dispatch.reporting import Lines, Reporter
from dispatch.settings import read_variables

workspace_option = click.option(
    "-w", "--workspace", metavar="URL", help="The workspace: a directory or a URL; wins over the settings."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
config_argument = click.argument("config", type=click.Path(path_type=Path, dir_okay=False))


@dataclass(frozen=True)
class ConfigChoice:
    """How a configuration is read: what is merged over it, its external variables, the file of settings."""

    overrides: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    settings: Path | None = None

    @property
    def overlay(self) -> Overlay:
        """What is laid over the configuration."""
        return Overlay(self.overrides, self.variables)


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a configuration, which it takes as one ``choice``: ConfigChoice."""

    @click.option(
        "-o",
        "--overrides",
        metavar="JSON",
        help="Merge this JSON or Jsonnet over CONFIG: mappings merge, all else is replaced.",
    )
    @click.option(
        "-D",
        "--ext-var",
        "variables",
        metavar="NAME[=VALUE]",
        multiple=True,
        help="Set a variable of a Jsonnet CONFIG; without a value, from the environment.",
    )
    @click.option(
        "--settings",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Use the settings of this file, and of no other.",
    )
    @functools.wraps(command)
    def packed(
        *arguments: Any, overrides: str | None, variables: tuple[str, ...], settings: Path | None, **rest: Any
    ) -> Any:
        choice = ConfigChoice(overrides, read_variables(variables), settings)
        return command(*arguments, choice=choice, **rest)

    return packed


def open_app(
    workspace: str | None = None, settings: Path | None = None, report: Reporter | None = None
) -> App:
    """Open the application for the current directory, or with the settings of one file.

    Its progress, beginning with the notices of the settings, goes to ``report``, else to stderr as lines.
    """
    report = report or Lines(note)
    app = App.open(Path.cwd(), workspace, say=report, settings=settings)
    if not app.surroundings.colour:
        click.get_current_context().color = False
    for line in app.settings.notices:
        report(line)
    return app
