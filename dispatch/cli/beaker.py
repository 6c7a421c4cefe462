"""`dispatch beaker`: a Beaker on this machine, for public clients and our own."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dispatch.cli.beakergc import command as gc
from dispatch.cli.options import json_option, open_app
from dispatch.cli.output import note, print_json, print_table
from dispatch.errors import ConfigurationError, DispatchError

if TYPE_CHECKING:
    from dispatch.app import App
    from dispatch.app.beaker import LocalBeaker
    from dispatch.app.beakercalls import Endpoint, Node, Status

_GIB = 1 << 30

state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where it keeps everything; another directory is another Beaker.",
)


@click.group("beaker")
def command() -> None:
    """Run a Beaker on this machine, its jobs as containers of the local engine."""


@command.command("up")
@state_option
@click.option(
    "--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="Its configuration (YAML)."
)
@click.option("--control", is_flag=True, help="Open the endpoint that makes faults on demand.")
@click.option("--foreground", is_flag=True, help="Stay here, with its log, until it is interrupted.")
@click.option("--no-images", is_flag=True, help="Do not build the stand-ins for well-known images.")
def up(state: Path | None, file: Path | None, control: bool, foreground: bool, no_images: bool) -> None:
    """Start it, if it does not run as wanted already; say where it is, and what it simulates."""
    from dispatch.app.beaker import Start

    app = open_app()
    beaker = _beaker(app, state)
    start = Start(file, control, None if no_images else _stand_ins(app))

    def tell(endpoint: Endpoint) -> None:
        for line in _summary(beaker, endpoint, _hint(state)):
            note(line)

    if foreground:
        click.get_current_context().exit(beaker.attend(start, tell))
    tell(beaker.up(start))


@command.command("down")
@state_option
@click.option("--stop-jobs", is_flag=True, help="Stop the jobs first, and wait until their results are kept.")
def down(state: Path | None, stop_jobs: bool) -> None:
    """End it. Its containers go on, and the next `up` looks after them again."""
    note(_beaker(open_app(), state).down(stop_jobs=stop_jobs))


@command.command("status")
@state_option
@json_option
def status(state: Path | None, as_json: bool) -> None:
    """Show where it is, what it has, and what goes on."""
    beaker = _beaker(open_app(), state)
    endpoint, found = beaker.running(), beaker.status()
    if as_json:
        known = {"state": str(beaker.state), "log": str(beaker.log), "running": found is not None}
        print_json({**known, **(_document(endpoint, found) if endpoint and found else {})})
        return
    if endpoint is None or found is None:
        there = "is down" if beaker.exists else "was never started"
        click.echo(
            f"the local Beaker in {beaker.state} {there}; `dispatch beaker up{_hint(state)}` starts it"
        )
        return
    print_table(("what", "is"), _facts(beaker, endpoint, found))
    click.echo()
    print_table(("cluster", "node", "cpus", "memory", "gpus", "jobs", "free slots", "remarks"), _nodes(found))


@command.command("env")
@state_option
@click.option("--user", metavar="NAME", help="Be this user; else the configuration's first.")
@click.option("--unset", is_flag=True, help="Print what takes the variables away again.")
@click.option("--intercept", is_flag=True, help="Go through the proxy that answers for another host.")
def env(state: Path | None, user: str | None, unset: bool, intercept: bool) -> None:
    """Print what a shell needs to reach it: eval "$(dispatch beaker env)"."""
    from dispatch.app.beakershell import exports, removals

    app = open_app()
    beaker, environ = _beaker(app, state), app.surroundings.environ
    if unset:
        lines = removals(beaker.state, environ)
    else:
        endpoint = beaker.running()
        if intercept and (endpoint is None or endpoint.proxy is None):
            raise ConfigurationError(
                f"the local Beaker in {beaker.state} answers for no other host",
                "say which under `intercept` in its configuration, and start it",
            )
        proxy = endpoint.proxy if endpoint is not None and intercept else None
        lines = exports(beaker.state, user, environ, proxy)
        if endpoint is None and beaker.exists:
            note(f"it is down, and clients would wait for it: `dispatch beaker up{_hint(state)}`")
    for line in list(lines):
        click.echo(line)


@command.command("logs")
@state_option
@click.option("-f", "--follow", "on", is_flag=True, help="Go on as it grows.")
@click.option(
    "--lines", type=click.IntRange(min=0), default=100, show_default=True, help="So many from its end."
)
def logs(state: Path | None, on: bool, lines: int) -> None:
    """Print the server's log: its starts, ends and problems."""
    from dispatch.app.beakerlog import follow, last_lines

    beaker = _beaker(open_app(), state)
    for line in last_lines(beaker.log, lines):
        click.echo(line)
    if on:
        for line in follow(beaker.log, time.sleep):
            click.echo(line)


@command.command("config")
@state_option
def config(state: Path | None) -> None:
    """Print its configuration, every key with what it means: a file to change, for `up --config`."""
    click.echo(_beaker(open_app(), state).configuration(), nl=False)


@command.command("reset")
@state_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(state: Path | None, yes: bool) -> None:
    """Remove it: its containers, running or not, its data, its users and their tokens."""
    beaker = _beaker(open_app(), state)
    if not beaker.exists:
        note(f"there is no local Beaker in {beaker.state}")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(f"{beaker.state}: nobody is there to be asked", "say --yes")
        click.confirm(f"remove {beaker.state}, and all containers of its jobs?", abort=True, err=True)
    note(beaker.reset())


command.add_command(gc)


def _beaker(app: App, state: Path | None) -> LocalBeaker:
    from dispatch._docker.machine import LinuxMachine
    from dispatch.app.beaker import LocalBeaker

    surroundings = app.surroundings
    return LocalBeaker(
        state or surroundings.state / "beaker",
        lambda: app.door,
        LinuxMachine(surroundings.environ),
        surroundings.environ,
        app.say,
    )


def _stand_ins(app: App) -> Callable[[], dict[str, str]]:
    """Who provides the stand-ins for well-known images, by name; what cannot be had is said, and left out."""
    from dispatch.app.standins import StandIns

    def provide() -> dict[str, str]:
        stand_ins = StandIns(app.surroundings, lambda: app.door, app.say)
        try:
            found = stand_ins.build()
        except DispatchError as error:
            note(f"{error.message}; {error.remedy}")
            found = stand_ins.present()
        return {name: each.id for name, each in found.items()}

    return provide


def _hint(state: Path | None) -> str:
    """The option that leads to the same server again."""
    return "" if state is None else f" --state {shlex.quote(str(state))}"


def _summary(beaker: LocalBeaker, endpoint: Endpoint, hint: str) -> Iterator[str]:
    found = beaker.status()
    yield f"a local Beaker runs (process {endpoint.pid}): gRPC {endpoint.rpc}, REST {endpoint.url}"
    if endpoint.bridge is None:
        yield "jobs cannot reach it: this machine has no address on the engine's bridge"
    if found is not None:
        yield f"users: {', '.join(found.users)}; workspaces: {', '.join(found.workspaces)}"
        yield f"clusters: {', '.join(cluster.name for cluster in found.clusters)}"
        for cluster in found.clusters:
            for node in cluster.nodes:
                if node.simulated:
                    yield f"simulated on {cluster.name}, {node.name}: {node.simulated}"
        if found.engine_problem:
            yield f"its engine does not answer: {found.engine_problem}"
    if endpoint.control:
        yield "faults on demand are open to administrators (control)"
    if endpoint.proxy is not None:
        yield f"warning: {endpoint.proxy} answers for another host, for who uses it as a proxy (intercept)"
    yield f'to use it: eval "$(dispatch beaker env{hint})"'


def _facts(beaker: LocalBeaker, endpoint: Endpoint, found: Status) -> list[tuple[str, str]]:
    from dispatch.units import format_duration, format_size

    jobs = ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in sorted(found.jobs.items()))
    return [
        ("state", f"{beaker.state} ({format_size(found.disk)})"),
        ("process", f"{endpoint.pid}, up {format_duration(found.uptime)}, dispatch {found.version}"),
        ("gRPC", endpoint.rpc),
        ("REST", endpoint.url),
        ("for jobs", f"host.docker.internal ({endpoint.bridge})" if endpoint.bridge else "not reachable"),
        ("engine", found.engine_problem or found.engine),
        ("users", ", ".join(found.users)),
        ("workspaces", ", ".join(found.workspaces)),
        ("images", ", ".join(found.images) or "-"),
        ("datasets", str(found.datasets)),
        ("jobs", jobs or "-"),
        ("control", "on" if found.control else "off"),
        *([("intercept", endpoint.proxy)] if endpoint.proxy else []),
    ]


def _nodes(found: Status) -> Iterator[tuple[str, ...]]:
    for cluster in found.clusters:
        for node in cluster.nodes:
            gpus = f"{node.gpus} {node.gpu_type or ''}".strip() if node.gpus else "-"
            free = f"{node.free} of {node.slots}"
            memory = f"{node.memory / _GIB:.0f} GiB"
            has = (f"{node.cpus:g}", memory, gpus)
            yield (cluster.name, node.name, *has, str(node.jobs), free, _remarks(node) or "-")


def _remarks(node: Node) -> str:
    simulated = f"simulated: {node.simulated}" if node.simulated else ""
    cordoned = f"cordoned: {node.cordoned}" if node.cordoned else ""
    return "; ".join(part for part in ("lost" if node.lost else "", cordoned, simulated) if part)


def _document(endpoint: Endpoint, found: Status) -> dict[str, Any]:
    """What machines read: all of it but the token."""
    where = {name: value for name, value in asdict(endpoint).items() if name != "admin_token"}
    return {"endpoint": where, **asdict(found)}
