"""Configurations in TOML: what is read, what is refused, and that they mean what the same YAML means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dispatch.config import load
from dispatch.errors import ConfigurationError
from dispatch.settings import Settings, WorkspaceSetting
from dispatch.settings.document import read_document

YAML = """\
images:
  tools: {docker: "busybox:1.36"}
steps:
  small: {type: train, lr: 1e-3, layers: [8, 16], step_resources: {cpu_count: 2, memory: 1GiB}}
  count:
    type: shell
    step_image: tools
    inputs: {model: {type: ref, ref: small}}
    command: |
      wc -c "$DISPATCH_INPUT_MODEL"/*
"""

TOML = '''\
[images]
tools = {docker = "busybox:1.36"}

[steps.small]
type = "train"
lr = 1e-3
layers = [8, 16]
step_resources = {cpu_count = 2, memory = "1GiB"}

[steps.count]
type = "shell"
step_image = "tools"
inputs.model = {type = "ref", ref = "small"}
command = """
wc -c "$DISPATCH_INPUT_MODEL"/*
"""
'''


def content(tmp_path: Path, text: str | bytes) -> Any:
    """The content of a file with this text."""
    path = tmp_path / "x.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path).content


def test_the_same_configuration_in_both(tmp_path: Path) -> None:
    """TOML and YAML of one meaning give one graph and one set of images."""
    (tmp_path / "a.yml").write_text(YAML)
    (tmp_path / "a.toml").write_text(TOML)
    settings = Settings(WorkspaceSetting("local", tmp_path / "workspace"))
    first, second = (load(tmp_path / name, settings, tmp_path) for name in ("a.yml", "a.toml"))
    assert dict(first.graph) == dict(second.graph)
    assert dict(first.images) == dict(second.images)


def test_what_is_laid_over_it(tmp_path: Path) -> None:
    """``-o`` works on TOML as on all others, and variables are refused as for all but Jsonnet."""
    (tmp_path / "a.toml").write_text(TOML)
    settings = Settings(WorkspaceSetting("local", tmp_path / "workspace"))
    over = '{"steps": {"small": {"lr": 0.5}}}'
    config = load(tmp_path / "a.toml", settings, tmp_path, overrides=over)
    assert config.graph["small"].arguments["lr"] == 0.5
    for overrides in (None, over):
        with pytest.raises(ConfigurationError) as caught:
            load(tmp_path / "a.toml", settings, tmp_path, overrides=overrides, variables={"lr": "1"})
        assert caught.value.message == f"{tmp_path}/a.toml: takes no variables, as it is not Jsonnet: lr"
        assert "a.jsonnet" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = ", ":2:5: not TOML: Invalid value"),
        ("a = 1\na = 2", ":2:6: not TOML: Cannot overwrite a value"),
        ('a = "x', ":1:7: not TOML: Unterminated string"),
        ("steps: {a: 1}", ":1:6: not TOML: Expected '=' after a key in a key/value pair"),
        ("[steps.x]\nwhen = 2024-01-01", ": steps.x.when: a date is not supported (2024-01-01)"),
        ("[[a]]\nb = [07:32:00]", ": a.0.b.0: a time is not supported (07:32:00)"),
        ("a = 1979-05-27T07:32:00Z", ": a: a datetime is not supported (1979-05-27 07:32:00+00:00)"),
        ("a = " + "[" * 200 + "]" * 200, ": nested too deeply"),
        ("a = " + "[" * 20_000 + "]" * 20_000, ": nested too deeply"),
        ("a = " + "9" * 5_000, ": a number has too many digits"),
        (b"a = '\xff'", ": not UTF-8 text (byte 5)"),
        ("a = '\0'", ":1:6: not TOML: Found invalid character '\\x00'"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    """Each error names the file, the place where the parser tells it, and the fact."""
    with pytest.raises(ConfigurationError) as caught:
        content(tmp_path, text)
    assert caught.value.message == f"{tmp_path}/x.toml{message}"
    assert caught.value.remedy


def test_texts_that_look_like_dates_are_texts(tmp_path: Path) -> None:
    """In quotes a date is what it is in YAML; a mark at the file's beginning and CRLF do not matter."""
    assert content(tmp_path, "\ufeffa = '2024-01-01'\r\nb = inf\r\n") == {
        "a": "2024-01-01",
        "b": float("inf"),
    }
