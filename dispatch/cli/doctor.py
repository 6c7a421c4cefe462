"""`dispatch doctor`: what a run needs, what is missing, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from dispatch.app.checks import CONFIGURATION, Check, Level, machine_checks
from dispatch.app.config_checks import ConfigChecks
from dispatch.cli.options import ConfigChoice, config_options, json_option, open_app, workspace_option
from dispatch.cli.output import print_json
from dispatch.errors import ConfigurationError

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}
_WIDTH = max(len(level.value) for level in Level)


@click.command("doctor")
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False), required=False)
@workspace_option
@config_options
@json_option
def command(config: Path | None, workspace: str | None, choice: ConfigChoice, as_json: bool) -> None:
    """Check what a run needs: engine, git, workspace, disk, tools; with CONFIG, all that its steps need.

    Exits 0 if a run would work, 2 if the configuration must be mended, 3 if the machine must.
    """
    findings = []
    for finding in _findings(config, workspace, choice):
        findings.append(finding)
        if not as_json:
            _show(finding)
    codes = [finding.code for finding in findings if finding.level is Level.PROBLEM]
    if as_json:
        checks = [{**vars(each), "level": each.level.value} for each in findings]
        print_json({"healthy": not codes, "checks": checks})
    if codes:
        click.get_current_context().exit(max(codes))


def _findings(config: Path | None, workspace: str | None, choice: ConfigChoice) -> Iterator[Check]:
    try:
        app = open_app(workspace, choice.settings)
    except ConfigurationError as error:
        # Without settings nothing else can be judged: which engine, which workspace, which images.
        yield Check("settings", Level.PROBLEM, error.message, error.remedy, CONFIGURATION)
        return
    if config is None:
        yield from machine_checks(app, contained=app.settings.executor.type != "local")
        return
    checks = ConfigChecks(app, config, choice.overlay)
    read = checks.read()
    yield from machine_checks(app, contained=checks.contained)
    yield read
    yield from checks.findings()


def _show(finding: Check) -> None:
    mark = click.style(finding.level.value.ljust(_WIDTH), fg=_STYLES[finding.level])
    click.echo(f"{mark}  {finding.what}: {finding.fact}")
    if finding.level is not Level.OK and finding.remedy:
        click.echo(f"{' ' * _WIDTH}  {finding.remedy}")
