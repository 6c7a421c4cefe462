"""`dispatch plan`: where every step of a configuration stands, and why. Builds and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from dispatch.app.running import Running, RunRequest
from dispatch.cli.options import (
    ConfigChoice,
    config_argument,
    config_options,
    json_option,
    open_app,
    workspace_option,
)
from dispatch.cli.output import note, print_json, print_table
from dispatch.image.plan import ImagePlan
from dispatch.plan import Place, PlannedStep, RunPlan, Standing
from dispatch.transfer import Cell
from dispatch.units import format_size

HERE = "here"


@click.command("plan")
@config_argument
@workspace_option
@click.option(
    "-s", "--step", "steps", metavar="STEP", multiple=True, help="Plan only this step and what it needs."
)
@click.option(
    "-i", "--include-package", "packages", metavar="MODULE", multiple=True, help="Import this module, too."
)
@click.option(
    "--rerun-changed",
    is_flag=True,
    help="Plan to run again what other code computed, and all that depends on it.",
)
@config_options
@json_option
def command(config: Path, workspace: str | None, choice: ConfigChoice, as_json: bool, **wanted: Any) -> None:
    """Show where every step of CONFIG stands: cached, to be run, computed inside others; and why."""
    app = open_app(workspace, choice.settings)
    request = RunRequest(
        config,
        targets=wanted["steps"],
        packages=wanted["packages"],
        rerun_changed=wanted["rerun_changed"],
        overlay=choice.overlay,
    )
    running = Running(app, request)
    try:
        show_plan(running, running.prepare(may_build=False), as_json)
    finally:
        running.close()


def show_plan(running: Running, plan: RunPlan, as_json: bool) -> None:
    """Print a plan: its steps on stdout, what else it means on stderr; or all of it as one JSON object."""
    # A commit that jobs could not clone is refused here as it is by a run.
    running.clone(plan)
    images = running.builds.to_do if running.builds is not None else ()
    moves = running.moves(plan)
    if as_json:
        print_json({**document(plan, images), "bytes": _moves(moves)})
        return
    asks = {step.node.name: asked(step) for step in plan.steps}
    shown = any(asks.values())
    head = ("step", "standing", "image", *(("asks for",) if shown else ()), "inputs", "reason")
    print_table(head, [_row(step, (asks[step.node.name] or "-",) if shown else ()) for step in plan.steps])
    for image in images:
        note(f"image {', '.join(sorted(image.tags))}: {image.action.value}: {image.reason}")
    for place, way in _moves(moves).items():
        why = f" ({way['reason']})" if "reason" in way else ""
        note(f"bytes, {place}: inputs: {way['inputs']}, results: {way['results']}{why}")
    note(summary(plan))


def image_of(step: PlannedStep) -> str:
    """The image's name, or that there is none to be used."""
    return HERE if step.place is Place.PROCESS or step.image is None else step.image


def document(plan: RunPlan, images: Sequence[ImagePlan]) -> Mapping[str, Any]:
    """The plan in JSON types."""
    steps = [
        {
            "name": step.node.name,
            "standing": step.standing.value,
            "reason": step.reason,
            "image": step.image,
            "place": step.place.value,
            "id": step.record.unique_id if step.record is not None else None,
            "inputs": list(step.node.dependencies),
            "waits_for": list(step.node.extra),
            "resources": step.resources.to_json(),
            "group": step.node.options.group,
            "needs": list(plan.needs(step.node.name)) if step.standing is Standing.RUN else [],
            "replaces": step.replaces,
        }
        for step in plan.steps
    ]
    return {"targets": list(plan.targets), "steps": steps, "images": [each.to_json() for each in images]}


def summary(plan: RunPlan) -> str:
    """How many steps stand where, in one line."""
    counts = {standing: len(plan.standing(standing)) for standing in Standing}
    said = ", ".join(f"{count} {standing.value}" for standing, count in counts.items() if count)
    return f"{len(plan.steps)} steps: {said}" if plan.steps else "no steps"


def _moves(moves: Mapping[Place, Cell]) -> dict[str, dict[str, str]]:
    return {
        place.value: {
            "inputs": cell.inputs.value,
            "results": cell.results.value,
            **({"reason": cell.reason} if cell.reason else {}),
        }
        for place, cell in moves.items()
    }


def asked(step: PlannedStep) -> str:
    """What a step asks of its machine, in words; empty if it asks for nothing."""
    resources, group = step.resources, step.node.options.group
    count = resources.gpu_count
    if count is None and resources.gpu_type is not None:
        count = 1
    parts = []
    if resources.cpu_count is not None:
        parts.append(f"{resources.cpu_count:g} CPU{'' if resources.cpu_count == 1 else 's'}")
    if resources.memory_bytes is not None:
        parts.append(format_size(resources.memory_bytes))
    if count:
        kind = f" {resources.gpu_type}" if resources.gpu_type is not None else ""
        parts.append(f"{count}{kind} GPU{'' if count == 1 else 's'}")
    if group is not None:
        parts.append(f"group {group}")
    return ", ".join(parts)


def _row(step: PlannedStep, asks: tuple[str, ...]) -> tuple[str, ...]:
    return (
        step.node.name,
        step.standing.value,
        image_of(step),
        *asks,
        ", ".join(step.node.needs) or "-",
        step.reason,
    )
