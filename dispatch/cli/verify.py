"""`dispatch verify`: is an image what its lock says, and does it work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dispatch.cli.options import ConfigChoice, config_options, json_option, open_app
from dispatch.cli.output import note, print_json, print_table
from dispatch.errors import ImageError

if TYPE_CHECKING:
    from dispatch.app.rebuilding import Rebuilt
    from dispatch.image.verify import Verification


@click.command("verify")
@click.argument("target", metavar="CONFIG|IMAGE")
@click.option("--image", "names", metavar="NAME", multiple=True, help="Of CONFIG, this image only.")
@click.option(
    "--rebuild", is_flag=True, help="Build it again from its lock with empty caches, and compare image IDs."
)
@config_options
@json_option
def command(target: str, names: tuple[str, ...], rebuild: bool, choice: ConfigChoice, as_json: bool) -> None:
    """Look into the images of CONFIG, or into IMAGE: a name of images/, or a reference of the engine.

    In a container without network: what is installed is what the lock says, no file was changed, all that
    can be imported is imported, every command starts.
    """
    from dispatch.app.chosen import choose
    from dispatch.app.rebuilding import rebuild as build_again
    from dispatch.app.verifying import subjects, verify

    app = open_app(settings=choice.settings)
    chosen = choose(app, target, names, choice.overlay)
    for name in chosen.foreign:
        note(f"{name}: not looked at: no lock says what is in it")
    found = subjects(chosen)
    looked = [verify(app, subject) for subject in found]
    rebuilt = list(build_again(app, chosen, found)) if rebuild else []
    problems = [f"{each.name}: {problem}" for each in looked for problem in each.problems]
    problems += [each.problem for each in rebuilt if each.problem]
    if as_json:
        print_json(
            {"images": [_document(each) for each in looked], "rebuilt": [_again(each) for each in rebuilt]}
        )
    else:
        rows = [
            (each.name, check.name, str(check.count), str(len(check.problems) or "-"))
            for each in looked
            for check in each.checks
        ]
        rows += [(each.name, "built again", "1", "-" if each.same else "1") for each in rebuilt]
        print_table(("image", "what", "looked at", "wrong"), rows)
    for problem in problems:
        note(problem)
    if problems:
        raise ImageError(
            f"{len(problems)} {'things are' if len(problems) > 1 else 'thing is'} not as the locks say",
            "build the images anew (`dispatch build --force`); what is installed as locked and still does not"
            " start lacks a package that its own does not ask for: ask for it, too, and lock again",
        )


def _document(found: Verification) -> dict[str, Any]:
    checks = [
        {"what": check.name, "count": check.count, "problems": list(check.problems)} for check in found.checks
    ]
    return {"name": found.name, "image": found.image, "checks": checks}


def _again(rebuilt: Rebuilt) -> dict[str, Any]:
    return {
        "name": rebuilt.name,
        "image": rebuilt.image,
        "again": rebuilt.again or None,
        "same": rebuilt.same,
        "error": rebuilt.error or None,
    }
