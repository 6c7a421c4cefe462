"""`dispatch why`: why a step is cached or not, and what differs from the nearest step before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from dispatch.app.explain import Why, changed_files, why
from dispatch.app.running import Running, RunRequest
from dispatch.cli.options import (
    ConfigChoice,
    config_argument,
    config_options,
    json_option,
    open_app,
    workspace_option,
)
from dispatch.cli.output import iso, moment, print_json
from dispatch.cli.plan import image_of
from dispatch.info import StepInfo


@click.command("why")
@config_argument
@click.argument("step")
@workspace_option
@click.option(
    "-i", "--include-package", "packages", metavar="MODULE", multiple=True, help="Import this module, too."
)
@click.option(
    "--rerun-changed", is_flag=True, help="Explain the plan in which what other code computed is run again."
)
@config_options
@json_option
def command(config: Path, step: str, workspace: str | None, choice: ConfigChoice, **wanted: Any) -> None:
    """Say why STEP of CONFIG is cached or not, and which input differs from the nearest earlier result."""
    app = open_app(workspace, choice.settings)
    request = RunRequest(
        config,
        packages=wanted["packages"],
        rerun_changed=wanted["rerun_changed"],
        overlay=choice.overlay,
    )
    running = Running(app, request)
    try:
        plan = running.prepare(may_build=False)
        found = why(plan, app.workspace, step, changed_files(running.source))
    finally:
        running.close()
    if wanted["as_json"]:
        print_json(document(found))
    else:
        for line in lines(found):
            click.echo(line)


def lines(found: Why) -> Iterator[str]:
    """The answer for people."""
    step = found.planned
    yield f"{step.node.name}: {step.standing.value}{f': {step.reason}' if step.reason else ''}"
    if step.record is not None:
        yield f"  id: {step.record.unique_id}"
    yield f"  image: {image_of(step)}"
    for fact in found.facts:
        yield f"  {fact}"
    if found.needs:
        yield f"  must run first: {', '.join(found.needs)}"
    if found.explanation is None:
        return
    nearest = found.explanation.nearest
    if nearest is None:
        tried = found.info is not None and found.info.attempt is not None
        yield f"  {'nothing else like it' if tried else 'never computed'} in this workspace"
        return
    yield f"  nearest: {_nearest(nearest, found.nearest_run)}"
    for line in found.explanation.lines():
        yield f"    {line}"


def _nearest(info: StepInfo, run: str | None) -> str:
    by = f" by run {run}" if run is not None else ""
    return f"{info.unique_id}, {info.state.value} {moment(info.end_time or info.start_time)}{by}"


def document(found: Why) -> Mapping[str, Any]:
    """The answer for machines."""
    step, explanation = found.planned, found.explanation
    return {
        "step": step.node.name,
        "id": step.record.unique_id if step.record is not None else None,
        "standing": step.standing.value,
        "reason": step.reason,
        "image": step.image,
        "place": step.place.value,
        "facts": list(found.facts),
        "needs": list(found.needs),
        "known": None if found.info is None else _document(found.info),
        "nearest": None
        if explanation is None or explanation.nearest is None
        else {**_document(explanation.nearest), "run": found.nearest_run},
        "changes": None
        if explanation is None
        else [
            {"step": each.step, "input": each.place, "change": each.text, "depth": each.depth}
            for each in explanation.changes
        ],
    }


def _document(info: StepInfo) -> dict[str, Any]:
    attempt = info.attempt
    return {
        "id": info.unique_id,
        "name": info.step_name,
        "state": info.state.value,
        "started": iso(info.start_time),
        "ended": iso(info.end_time),
        "error": info.error,
        "image": attempt.image if attempt is not None else "",
        "image_id": attempt.image_digest if attempt is not None else "",
        "commit": attempt.commit if attempt is not None else "",
        "tree": attempt.tree if attempt is not None else "",
    }
