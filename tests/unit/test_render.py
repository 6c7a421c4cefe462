"""No value reaches a shell unquoted, and every rendered entrypoint is its golden file."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest

from dispatch.errors import ConfigurationError
from dispatch.render import environment, quote, render

GOLDEN = Path(__file__).parent.parent / "golden"
VARIANTS: dict[str, str] = runpy.run_path(str(GOLDEN / "render_entrypoints.py"))["variants"]()

HOSTILE = [
    "",
    "plain",
    "two words",
    "it's",
    "'''",
    '"double"',
    "$HOME ${HOME} $(echo gone) `echo gone`",
    "a\nb\n",
    "back\\slash\\",
    "~ * ? [a] {b,c} # ! & | ; < > ( )",
    "-n",
    "é ü 日本 \u2028",
    "\t\r\x01\x7f",
]


def rendered(template: str, **values: object) -> str:
    """Render a template given as text."""
    return environment(jinja2.DictLoader({"t": template})).get_template("t").render(values)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_arrives_in_the_shell_as_it_was(value: str) -> None:
    """Whatever the text, sh sees exactly it, and runs nothing of it."""
    script = rendered("name={{ value }}\nprintf '%s.' \"$name\"\n", value=value)
    seen = subprocess.run(
        ["sh", "-c", script], capture_output=True, check=True, env={"PATH": os.environ["PATH"]}
    )
    assert seen.stdout == value.encode() + b"."


@pytest.mark.parametrize("expression", ["value", "value | quote", "value | quote | quote"])
def test_quoting_happens_once_with_or_without_the_filter(expression: str) -> None:
    """A template that forgets the filter, or repeats it, prints the same word."""
    assert rendered("name={{ " + expression + " }}\n", value="it's") == "name='it'\\''s'\n"


@pytest.mark.parametrize(
    "template",
    [
        "echo {{ value }}\n",
        'name="{{ value }}"\n',
        "name={{ value }} command\n",
        "name=x{{ value }}\n",
        "name={{ value }}{{ value }}\n",
        "  name={{ value }}\n",
        "export name={{ value }}\n",
        "name={{- value }}\n",
        "true\nname={{ value }}\n",
        "cat <<X\nname={{ value }}\nX\n",
        'echo "\nname={{ value }}\n"\n',
        "name={{\nvalue }}\n",
        'echo "{% if value %}\nname={{ value }}\n{% endif %}\n',
        "{% if value -%}\nname={{ value }}\n{% endif %}\n",
        "{% raw %}\nname=\n{% endraw %}\n",
        "{% set other %}\nx\n{% endset %}\n",
        "{% filter upper %}\nname={{ value }}\n{% endfilter %}\n",
        "{% include 'u' %}\n",
    ],
)
def test_a_value_or_tag_out_of_place_is_refused(template: str) -> None:
    """A template cannot print where quoting would be void; it does not even load."""
    with pytest.raises(jinja2.TemplateSyntaxError):
        rendered(template, value="x")


@pytest.mark.parametrize("value", [None, True, 1.5, ["x"], {"a": "b"}, b"x"])
def test_only_text_and_whole_numbers_are_printed(value: object) -> None:
    """A None in a script is a mistake of ours, not the word "None"."""
    with pytest.raises(TypeError, match=type(value).__name__):
        quote(value)


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_text_that_no_script_can_hold_is_the_users_error(value: str) -> None:
    """A NUL or a lone surrogate is refused with a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        quote(value)
    assert caught.value.remedy


def test_an_undefined_value_is_an_error() -> None:
    """StrictUndefined: neither printing nor asking for a name that was not given passes silently."""
    for template in ("name={{ value }}\n", "{% if value %}\n{% endif %}\n"):
        with pytest.raises(jinja2.UndefinedError):
            rendered(template)
    with pytest.raises(jinja2.UndefinedError):
        render("entrypoint/shell.sh.j2", {"workdir": "/src"})


def test_golden_files_are_exactly_the_variants() -> None:
    """No golden file is left over, none is missing."""
    assert sorted(path.name for path in (GOLDEN / "entrypoint").iterdir()) == sorted(VARIANTS)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_rendered_entrypoint_is_its_golden_file(name: str) -> None:
    """What is rendered changes only together with its golden file (``make golden``)."""
    assert VARIANTS[name] == (GOLDEN / "entrypoint" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_shell_at_hand_can_read_it(name: str) -> None:
    """dash, busybox and bash, as far as they are here, parse every variant."""
    shells = [["sh"], *([shell] for shell in ("dash", "bash") if shutil.which(shell))]
    if shutil.which("busybox"):
        shells.append(["busybox", "sh"])
    for shell in shells:
        subprocess.run([*shell, "-n", str(GOLDEN / "entrypoint" / name)], check=True)
