"""Events in words: the lines that every display for people shows alike, and what may not get into them.

Owns the sentences and their colours. Lines carry ANSI colours; who prints them takes those out where they
are not welcome.
"""

from __future__ import annotations

import re
import zlib

import click

from dispatch.cli.output import STYLES
from dispatch.cli.progress.story import StepStory, TaskStory
from dispatch.units import format_duration, format_size

_PREFIXES = ("cyan", "green", "yellow", "blue", "magenta", "bright_cyan", "bright_green", "bright_blue")
# What a terminal obeys: CSI and OSC sequences, and other escapes of two characters.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Return one line of a step's own words without anything that a terminal would obey.

    Of a progress bar that is redrawn with carriage returns, the last state is left.
    """
    shown = _ESCAPE.sub("", text.replace("\n", " "))
    last = next((part for part in reversed(shown.split("\r")) if part.strip()), "")
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", last.expandtabs(8)).rstrip()


def started(step: StepStory) -> str:
    """A step was handed to the engine."""
    again = f", attempt {step.attempt}" if step.attempt > 1 else ""
    return f"{step.name}: started{again}"


def taken_over(step: StepStory, now: float) -> str:
    """A step's job was begun by a client before us."""
    return f"{step.name}: taken over, it has run for {format_duration(max(0.0, now - step.since))}"


def linked(step: StepStory) -> str:
    """A step's job runs where a person can look at it."""
    return f"{step.name}: runs, see {clean(step.link)}"


def held(step: StepStory) -> str:
    """A step is held up."""
    return f"{step.name}: waiting: {clean(step.reason)}"


def retrying(step: StepStory, delay: float) -> str:
    """An attempt failed, and there will be another."""
    return f"{step.name}: {clean(step.reason)}; once more in {format_duration(delay)}"


def ended(step: StepStory) -> str:
    """A step reached its verdict."""
    assert step.outcome is not None
    verdict = step.outcome.verdict.value
    took = f" in {format_duration(step.took)}" if step.took is not None else ""
    reason = f": {clean(step.reason)}" if step.reason else ""
    return f"{step.name}: {click.style(verdict, fg=STYLES[verdict])}{took}{reason}"


def logged(name: str, line: str) -> str:
    """A line that a step printed, behind its name; the name's colour is always the same."""
    colour = _PREFIXES[zlib.crc32(name.encode()) % len(_PREFIXES)]
    return f"{click.style(f'{name} |', fg=colour)} {clean(line)}"


def task_begun(task: TaskStory) -> str:
    """A task of bytes begins."""
    size = f", {format_size(task.total)}" if task.total else ""
    return f"{task.name}{size}"


def task_going(task: TaskStory, now: float) -> str:
    """How far a task has come."""
    of = f" of {format_size(task.total)}" if task.total else ""
    return f"{task.name}: {format_size(task.bytes)}{of}, {rate(task, now)}"


def task_ended(task: TaskStory, now: float) -> str:
    """How a task ended."""
    took = format_duration(now - task.began)
    if task.broken:
        return f"{task.name}: broke off after {took}"
    if not task.bytes:
        return f"{task.name}: done in {took}"
    return f"{task.name}: {format_size(task.bytes)} in {took}, {rate(task, now)}"


def rate(task: TaskStory, now: float) -> str:
    """Bytes a second since the task began."""
    return f"{format_size(round(task.bytes / max(now - task.began, 0.001)))}/s"
