"""Dockerfiles that we write: golden, every value an element of an exec form; what is added to a user's."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import jinja2
import pytest

from dispatch.environment import DockerfileImage, Extras
from dispatch.errors import ConfigurationError
from dispatch.image.rendering import arguments_of, configured, rendered, target_of
from dispatch.render import dockerfile_environment

GOLDEN = Path(__file__).parent.parent / "golden"
VARIANTS: dict[str, str] = runpy.run_path(str(GOLDEN / "render_dockerfiles.py"))["variants"]()
HOSTILE = [
    "",
    "two words",
    "it's",
    '"',
    "\\",
    "$A ${A} `a` $(a)",
    "a\nb\\\n",
    "]",
    '"]\nUSER root',
    "é\u2028",
    "#",
]


def shown(template: str, **values: object) -> str:
    """Render a template given as text."""
    return dockerfile_environment(jinja2.DictLoader({"t": template})).get_template("t").render(values)


def test_golden_files_are_exactly_the_variants() -> None:
    """No golden file is left over, none is missing, each is what is rendered."""
    found = {path.name: path.read_text("utf-8") for path in (GOLDEN / "dockerfile").iterdir()}
    assert found == VARIANTS


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_one_word_on_one_line(value: str) -> None:
    """Whatever the text, the exec form is one line of JSON that holds exactly it."""
    text = shown('RUN ["a", {{ one }}, {{ many }}]\n', one=value, many=[value, "z"])
    assert text.count("\n") == 1
    assert text.isascii()
    assert json.loads(text.removeprefix("RUN ")) == ["a", value, value, "z"]


@pytest.mark.parametrize(
    "template",
    [
        "RUN {{ value }}\n",
        'RUN ["a{{ value }}"]\n',
        'RUN ["a", {{ value }}] && {{ value }}\n',
        "ENV A={{ value }}\n",
        "FROM {{ value }}\n",
        "# {{ value }}\n",
        " RUN [{{ value }}]\n",
        "RUN [{{- value }}]\n",
        "RUN [{% if value %}]\n",
        "{% set x %}\n{% endset %}\n",
        "{% include 'u' %}\n",
        "{# {{ value }} #}\n",
    ],
)
def test_a_value_or_tag_out_of_place_is_refused(template: str) -> None:
    """A template cannot print where a value would be expanded; it does not even load."""
    with pytest.raises(jinja2.TemplateSyntaxError):
        shown(template, value="x")


@pytest.mark.parametrize("value", [None, 1, [], ["a", 1]])
def test_only_text_is_printed(value: object) -> None:
    """Anything else is a mistake of ours."""
    with pytest.raises(TypeError, match="no text"):
        shown("RUN [{{ value }}]\n", value=value)


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_text_that_no_command_can_hold_is_the_users_error(value: str) -> None:
    """A NUL or a lone surrogate is refused with a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        rendered(DockerfileImage(None, None, "base", more=Extras(run=(value,))))
    assert caught.value.remedy


def user_file(stage: str = "", **more: object) -> DockerfileImage:
    """Declare a user's Dockerfile with some of the common keys."""
    return DockerfileImage(Path("/Dockerfile"), Path("/"), stage=stage, more=Extras(**more))  # type: ignore[arg-type]


TAIL = "ARG DISPATCH_USER\nUSER ${DISPATCH_USER}\n"
TEXTS = {
    "nothing to add": (user_file(), "FROM a", "FROM a"),
    "a user": (user_file(user="1"), "FROM a", f"FROM a\n{TAIL}"),
    "a stage": (user_file("b", user="1"), "FROM a AS b\n", f"FROM a AS b\nFROM b AS dispatch-final\n{TAIL}"),
    "an open line": (user_file(user="1"), "FROM a\nRUN b \\\n\n", f"FROM a\nRUN b \n{TAIL}"),
    "another sign": (
        user_file(user="1"),
        "# escape=`\nFROM a\nRUN b \\\n",
        f"# escape=`\nFROM a\nRUN b \\\n{TAIL}",
    ),
    "a variable": (
        user_file(env=(("A", "$x"),)),
        "FROM a\n",
        "FROM a\nARG DISPATCH_ENV_0\nENV A=${DISPATCH_ENV_0}\n",
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_what_is_added_to_a_users_file(case: str) -> None:
    """Settings come behind everything else, in the stage that is built."""
    declaration, text, expected = TEXTS[case]
    assert configured(text, declaration) == expected
    assert target_of(declaration) == ("dispatch-final" if "dispatch-final" in expected else declaration.stage)


def test_values_go_by_arguments() -> None:
    """Base, variables and user are arguments; a rendered file gives the base's user back."""
    mine = user_file(env=(("A", "1"), ("B", "2")), user="me")
    assert arguments_of(mine, "ref:1", "base-user") == {
        "BASE": "ref:1",
        "DISPATCH_ENV_0": "1",
        "DISPATCH_ENV_1": "2",
        "DISPATCH_USER": "me",
    }
    assert arguments_of(user_file(), "", "") == {}
    steps = DockerfileImage(None, None, "base")
    assert arguments_of(steps, "ref:1", "nobody") == {"BASE": "ref:1", "DISPATCH_USER": "nobody"}
    assert arguments_of(steps, "ref:1", "")["DISPATCH_USER"] == "root"


@pytest.mark.parametrize("name", ["A B", "1A", "", "A=B", "A\nUSER root"])
def test_a_name_that_no_variable_can_have_is_refused(name: str) -> None:
    """Names are the only texts that enter a file as they are."""
    with pytest.raises(ConfigurationError, match="cannot be the name of a variable"):
        configured("FROM a\n", user_file(env=((name, "1"),)))


def test_a_stage_that_no_stage_can_be_called_is_refused() -> None:
    """Nor can a stage bring lines of its own."""
    with pytest.raises(ConfigurationError, match="cannot be the name of a stage"):
        configured("FROM a\n", user_file("a\nRUN b", user="1"))
