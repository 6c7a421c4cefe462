"""What is given on the command line, laid over a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dispatch.config import Config, load
from dispatch.errors import ConfigurationError
from dispatch.settings import Settings, WorkspaceSetting
from dispatch.settings.document import Document, read_document
from dispatch.settings.overrides import overlay

FILE = """\
image: a
images: {a: {docker: 'a:1'}, b: {docker: 'b:1'}}
steps:
  one.two: {type: shell, command: x, paths: [p, q]}
  three: {type: train, model: {type: linear, size: 3}, rate: 0.1}
"""


def document(tmp_path: Path, text: str) -> Document:
    """A YAML document."""
    path = tmp_path / "x.yml"
    path.write_text(text)
    return read_document(path)


def config(tmp_path: Path, text: str, over: str | None, **variables: str) -> Config:
    """A configuration with something laid over it."""
    (tmp_path / "x.yml").write_text(text)
    settings = Settings(workspace=WorkspaceSetting("local", tmp_path / "workspace"))
    return load(tmp_path / "x.yml", settings, tmp_path, overrides=over, variables=variables)


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ("a: 1", '{"a": 2}', {"a": 2}),
        ("a: 1", '{"b": 2}', {"a": 1, "b": 2}),
        ("a: {b: 1, c: 2}", '{"a": {"b": 3}}', {"a": {"b": 3, "c": 2}}),
        (
            "a: {b: {c: {d: 1}}, e: 2}",
            '{"a": {"b": {"c": {"f": 3}}}}',
            {"a": {"b": {"c": {"d": 1, "f": 3}}, "e": 2}},
        ),
        ("a: [1, 2]", '{"a": [3]}', {"a": [3]}),
        ("a: [{b: 1, c: 2}]", '{"a": [{"b": 3}]}', {"a": [{"b": 3}]}),
        ("a: {b: 1}", '{"a": 2}', {"a": 2}),
        ("a: 1", '{"a": {"b": 2}}', {"a": {"b": 2}}),
        ("a: {b: 1, c: 2}", '{"a": {"b": null}}', {"a": {"b": None, "c": 2}}),
        ("a: {b: 1}", '{"a": {}}', {"a": {"b": 1}}),
        ("a.b: 1", '{"a.b": 2}', {"a.b": 2}),
        ("a: {b: 1}", '{"a.b": 2}', {"a": {"b": 1}, "a.b": 2}),
        ("", '{"a": 1}', {"a": 1}),
        ("a: 1", "{}", {"a": 1}),
        ("a: 1", "{ a+: 2, }", {"a": 2}),
        ("a: 1", "local x = 1; { a: x + 1, b: 'c' }", {"a": 2, "b": "c"}),
        ("a: 1", "{ a: std.extVar('A') }", {"a": "from outside"}),
    ],
)
def test_mappings_merge_and_all_else_is_replaced(tmp_path: Path, base: str, over: str, merged: Any) -> None:
    """JSON, or Jsonnet, is merged deeply; a dotted key is a key with a dot; null is set, not removed."""
    assert overlay(document(tmp_path, base), over, {"A": "from outside"}).content == merged


def test_an_anchor_is_overridden_where_it_is_named(tmp_path: Path) -> None:
    """Two places that share a value in the file are changed one by one."""
    found = overlay(document(tmp_path, "a: &x {k: 1, l: 2}\nb: *x"), '{"a": {"k": 3}}', {})
    assert found.content == {"a": {"k": 3, "l": 2}, "b": {"k": 1, "l": 2}}


def test_it_is_known_what_came_from_where(tmp_path: Path) -> None:
    """Values that were laid over say so; those beside and around them keep their lines."""
    found = overlay(document(tmp_path, "a: {b: 1, c: 2}\nd: 3"), '{"a": {"b": {"x": 0}}}', {})
    assert found.where(("a", "b")) == found.where(("a", "b", "x")) == "-o"
    assert found.where(("a",)).endswith("x.yml:1:1")
    assert found.where(("a", "c")).endswith("x.yml:1:11")
    assert found.say(("a", "b", "x"), "is wrong") == "-o: a.b.x: is wrong"
    assert found.say(("a", "b"), "a.b: expected more") == "-o: a.b: expected more"


def test_a_configuration_is_changed(tmp_path: Path) -> None:
    """Arguments, images and whole steps can be overridden; a step's name may hold a dot."""
    over = (
        '{"image": "b", "steps": {"three": {"rate": 1, "model": {"size": 4}}, "one.two": {"paths": ["r"]},'
        ' "four": {"type": "shell", "command": "y"}}}'
    )
    found = config(tmp_path, FILE, over)
    assert found.graph["three"].arguments == {"model": {"type": "linear", "size": 4}, "rate": 1}
    assert found.graph["one.two"].arguments == {"command": "x", "paths": ["r"]}
    assert found.graph.order == ("one.two", "three", "four")
    assert set(found.images.values()) == {"b"}
    assert config(tmp_path, FILE, None).images["three"] == "a"


@pytest.mark.parametrize(
    ("over", "message", "remedy"),
    [
        ("[]", "-o: expected keys with values, got a list", 'write JSON such as {"steps": {"NAME"'),
        ("3", "-o: expected keys with values, got the number 3", "write JSON such as"),
        (
            "steps.three.rate=1",
            "-o:1:17: not Jsonnet: expected one of",
            'write JSON such as {"steps": {"NAME"',
        ),
        ('{"steps": }', "-o:1:11: not Jsonnet: expected one of", "write JSON such as"),
        ("{steps: {three: x}}", "-o:1:17: variable is not defined: x", "mend it at this place"),
        ("{a: std.extVar('N')}", "-o:1:5: the variable 'N' is not set", "set it: `-D N=VALUE`"),
        ('{"image": "c", "image": "d"}', "-o: 'image' is given twice", "keep one of them"),
        ('{"stpes": {}}', "-o: stpes: unknown key 'stpes', did you mean 'steps'?", "use one of"),
        ('{"image": 3}', "-o: image: expected the name of an image, got the number 3", "declare"),
        ('{"image": "c"}', "-o: step 'one.two': no image is named 'c'", "declare"),
        ('{"steps": {"three": {"step_image": "c"}}}', "-o: step 'three': no image is named 'c'", "declare"),
        (
            '{"images": {"b": {"docker": 1}}}',
            "-o: images.b.docker: expected text, got the number 1",
            "",
        ),
        (
            '{"steps": {"three": {"step_netwrok": "none"}}}',
            "x.yml with -o: step 'three': there is no key 'step_netwrok', did you mean 'step_network'?",
            "",
        ),
        ('{"steps": {"four": {}}}', "x.yml with -o: step 'four': has no 'type'", "name a registered step"),
        ('{"steps": null}', "-o: steps: there are no steps", "declare them"),
    ],
)
def test_mistakes_that_were_laid_over(tmp_path: Path, over: str, message: str, remedy: str) -> None:
    """An error in what was given by hand does not blame the file."""
    with pytest.raises(ConfigurationError) as caught:
        config(tmp_path, FILE, over)
    assert caught.value.message.replace(f"{tmp_path}/", "").startswith(message)
    assert caught.value.remedy.startswith(remedy)


def test_mistakes_of_the_file_are_still_the_files(tmp_path: Path) -> None:
    """What is wrong beside the overrides is named with its line."""
    with pytest.raises(ConfigurationError) as caught:
        config(tmp_path, FILE + "stpes: {}", '{"image": "b"}')
    assert caught.value.message.startswith(f"{tmp_path}/x.yml:6:1: unknown key 'stpes'")
    with pytest.raises(ConfigurationError) as caught:
        config(tmp_path, FILE + "  four: {}", '{"image": "b", "steps": {"three": {"rate": 2}}}')
    assert caught.value.message.startswith(f"{tmp_path}/x.yml: step 'four': has no 'type'")


def test_variables_need_jsonnet(tmp_path: Path) -> None:
    """A variable that nothing can ask for is refused, not ignored; overrides in Jsonnet may ask for it."""
    with pytest.raises(ConfigurationError) as caught:
        config(tmp_path, FILE, None, rate="1")
    assert caught.value.message == f"{tmp_path}/x.yml: takes no variables, as it is not Jsonnet: rate"
    assert caught.value.remedy == 'rename it to x.jsonnet and write std.extVar("NAME"), or use -o'
    over = "{ steps: { three: { rate: std.parseInt(std.extVar('rate')) } } }"
    assert config(tmp_path, FILE, over, rate="1").graph["three"].arguments["rate"] == 1
