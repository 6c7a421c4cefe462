"""`dispatch doctor`: what a run needs, what is missing, and how to mend it."""

from __future__ import annotations

import click

from dispatch.app.checks import check_all
from dispatch.cli.options import json_option, open_app, workspace_option
from dispatch.cli.output import print_json


@click.command("doctor")
@workspace_option
@json_option
def command(workspace: str | None, as_json: bool) -> None:
    """Check what a run needs: engine, git, workspace, disk, tools. Exits 3 if something needed is missing."""
    findings = list(check_all(open_app(workspace)))
    healthy = all(finding.ok for finding in findings if finding.needed)
    if as_json:
        print_json({"healthy": healthy, "checks": [vars(finding) for finding in findings]})
    else:
        for finding in findings:
            mark = click.style("ok     ", fg="green") if finding.ok else click.style("missing", fg="red")
            click.echo(f"{mark}  {finding.what}: {finding.fact}")
            if not finding.ok:
                click.echo(f"         {finding.remedy}")
    if not healthy:
        click.get_current_context().exit(3)
