"""One command instead of a configuration, as the command line says it: `dispatch run [options] -- COMMAND…`.

Owns the options that only a command has, and which options belong to which form.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dispatch.app.adhoc import STEP, AdHoc, EarlierResult
from dispatch.settings import read_variables

_WORDS = "dispatch.words"
_RUN = re.compile(r"(?:(?P<name>[^=@]+)=)?(?P<step>[^=@]+)@(?P<run>[^=@]+)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
# How the options of a configuration are called by those who give them.
_OF_CONFIG = {
    "steps": "--step",
    "packages": "--include-package",
    "rerun_changed": "--rerun-changed",
    "overrides": "--overrides",
    "variables": "--ext-var",
}


class WithWords(click.Command):
    """A command that takes any words after ``--``; see :func:`words`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what stands after ``--`` as it is, and parse the rest."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[_WORDS] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)


def words() -> tuple[str, ...] | None:
    """Return what stood after ``--``, None where there was none."""
    found: tuple[str, ...] | None = click.get_current_context().meta.get(_WORDS)
    return found


class ConfigOrCommand(WithWords):
    """A command that takes a CONFIG, or after ``--`` any words."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Name both forms."""
        return ["[OPTIONS]", "CONFIG | [OPTIONS] -- COMMAND…"]


@dataclass(frozen=True)
class CommandChoice:
    """What the options of a command were given, and its words; without any, a configuration is meant."""

    words: tuple[str, ...] | None
    options: Mapping[str, Any]

    def request(self, directory: Path) -> AdHoc:
        """Return what is asked for. Usage errors name the option."""
        assert self.words is not None
        given = self.options
        if not any(word.strip() for word in self.words):
            raise click.UsageError("say what to run after `--`")
        return AdHoc(
            command=self.words[0] if len(self.words) == 1 else shlex.join(self.words),
            directory=directory,
            step=given["step_name"] or STEP,
            image=given["image"],
            inputs=tuple(_input(word) for word in given["inputs"]),
            options=_step_options(given, directory),
            paths=given["paths"],
            again=given["again"],
        )


def command_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of ``-- COMMAND…``, which it takes as one ``adhoc``: CommandChoice."""
    for option in reversed(_OPTIONS):
        command = option(command)

    @functools.wraps(command)
    def packed(*arguments: Any, **rest: Any) -> Any:
        options = {name: rest.pop(name) for name in _OWN}
        return command(*arguments, adhoc=CommandChoice(words(), options), **rest)

    return packed


def check_form(config: Path | None, choice: CommandChoice) -> None:
    """Refuse options of the one form beside the other; usage errors say which belong where."""
    context = click.get_current_context()
    given = {
        name
        for name in context.params
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    if choice.words is None:
        wrong = [f"--{name.replace('_', '-')}" for name in _OWN if name in given]
        wrong = [_SPELLED.get(word, word) for word in wrong]
        if wrong:
            raise click.UsageError(
                f"{wrong[0]} is for a command: write `dispatch run {wrong[0]} … -- COMMAND`"
                + ("" if config is None else "; what a step of CONFIG is to have is said there")
            )
        if config is None:
            raise click.UsageError("name a CONFIG, or a command after `--`")
        return
    if config is not None:
        raise click.UsageError(f"takes a CONFIG ({config}) or a command after `--`, not both")
    wrong = [spelled for name, spelled in _OF_CONFIG.items() if name in given]
    if wrong:
        raise click.UsageError(f"{wrong[0]} is for a CONFIG; a command after `--` does without")


def _input(word: str) -> EarlierResult:
    found = _RUN.fullmatch(word)
    name = (found["name"] or found["step"]) if found is not None else ""
    if found is None or not _NAME.fullmatch(name):
        raise click.BadParameter(
            f"{word!r}: write [NAME=]STEP@RUN, such as train@latest", param_hint="--input"
        )
    return EarlierResult(name, found["step"], found["run"])


def _mount(word: str, directory: Path) -> dict[str, Any]:
    parts = word.split(":")
    mode = parts.pop() if len(parts) == 3 and parts[2] in ("rw", "ro") else "ro"
    if len(parts) != 2 or not all(parts):
        raise click.BadParameter(f"{word!r}: write SOURCE:TARGET, or SOURCE:TARGET:rw", param_hint="--mount")
    source = parts[0] if parts[0].startswith("~") else str(directory / parts[0])
    return {"source": source, "target": parts[1], "read_only": mode == "ro"}


def _step_options(given: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """The options as config would say them under a step's keys."""
    resources = {
        "gpu_count": given["gpus"],
        "memory": given["memory"],
        "cpu_count": given["cpus"],
    }
    options = {
        "step_resources": {name: value for name, value in resources.items() if value is not None},
        "step_env": read_variables(given["env"]),
        "step_network": given["network"],
        "step_secrets": list(given["secrets"]),
        "step_mounts": [_mount(word, directory) for word in given["mounts"]],
        "step_timeout": given["timeout"],
        "step_retries": given["retries"],
    }
    return {name: value for name, value in options.items() if value not in (None, {}, [])}


_SPELLED = {"--inputs": "--input", "--mounts": "--mount", "--secrets": "--secret", "--paths": "--path"}
_OPTIONS: Sequence[Callable[..., Any]] = (
    click.option("--image", metavar="NAME|REFERENCE", help="The command's image; without one it runs here."),
    click.option("--gpus", type=int, metavar="N", help="GPUs for the command."),
    click.option("--memory", metavar="SIZE", help="Memory for the command, such as 4GiB."),
    click.option("--cpus", type=float, metavar="N", help="CPUs for the command."),
    click.option(
        "--env",
        metavar="NAME[=VALUE]",
        multiple=True,
        help="Set a variable for the command; without a value, from the environment.",
    ),
    click.option(
        "--mount",
        "mounts",
        metavar="SOURCE:TARGET[:rw]",
        multiple=True,
        help="Show a path of the host to the command.",
    ),
    click.option(
        "--input",
        "inputs",
        metavar="[NAME=]STEP@RUN",
        multiple=True,
        help="Give the command a result of an earlier run, in DISPATCH_INPUT_<NAME>.",
    ),
    click.option(
        "--path",
        "paths",
        metavar="PATH",
        multiple=True,
        help="Files that the command depends on; without it, the whole repository.",
    ),
    click.option("--network", type=click.Choice(["bridge", "none"]), help="The command's network."),
    click.option("--secret", "secrets", metavar="NAME", multiple=True, help="Give the command a secret."),
    click.option("--timeout", metavar="DURATION", help="How long an attempt at the command may take."),
    click.option("--retries", type=int, metavar="N", help="How often the command may be tried again."),
    click.option("--step-name", metavar="NAME", help=f"The command's name as a step (default: {STEP})."),
    click.option("--again", is_flag=True, help="Run the command although it has a result."),
)
_OWN = (
    "image",
    "gpus",
    "memory",
    "cpus",
    "env",
    "mounts",
    "inputs",
    "paths",
    "network",
    "secrets",
    "timeout",
    "retries",
    "step_name",
    "again",
)
