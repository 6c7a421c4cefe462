"""Jsonnet and JSON as sources of plain data: what they say, and how each mistake in them is answered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dispatch.errors import ConfigurationError
from dispatch.settings.document import read_document
from dispatch.settings.jsonnet import evaluate
from dispatch.settings.surroundings import read_variables


def read(tmp_path: Path, text: str | bytes, name: str = "x.jsonnet", **variables: str) -> Any:
    """The content of a file with this text."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path, variables).content


def refused(tmp_path: Path, text: str | bytes, name: str = "x.jsonnet") -> ConfigurationError:
    """The error of a file, its directory left out."""
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text, name)
    caught.value.message = caught.value.message.replace(f"{tmp_path}/", "")
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{ a: 1, b: [true, null, 'c'], }", {"a": 1, "b": [True, None, "c"]}),
        ("// nothing\n{}", {}),
        ("local a = 2; { b: a * 3 }", {"b": 6}),
        ("{ a: 1e-3, b: 0.1, c: 1.0 }", {"a": 0.001, "b": 0.1, "c": 1}),
        ("{ a: 'é \\u0000 \\ud83d\\ude00' }", {"a": "é \0 😀"}),
        ("{ a:: 1, b: self.a }", {"b": 1}),
        ("{ [x + '_' + y]: 0 for x in ['a', 'b'] for y in ['c'] }", {"a_c": 0, "b_c": 0}),
        ("\ufeff{ a: 1 }", {"a": 1}),
    ],
)
def test_jsonnet_is_evaluated(tmp_path: Path, text: str, value: Any) -> None:
    """The content is what the text evaluates to."""
    assert read(tmp_path, text) == value


def test_fields_keep_their_order(tmp_path: Path) -> None:
    """Fields come in the order in which they are written, not in that of the alphabet."""
    assert list(read(tmp_path, "local a = { z: 1, b: 2 }; a { y: 3, b: 4 }")) == ["z", "b", "y"]


def test_external_variables(tmp_path: Path) -> None:
    """Variables are texts, taken as they are."""
    text = "{ a: std.extVar('A'), n: std.parseJson(std.extVar('N')) }"
    assert read(tmp_path, text, A='b=c="d" $e', N="1e-3") == {"a": 'b=c="d" $e', "n": 0.001}


def test_a_file_imports_others_beside_itself(tmp_path: Path) -> None:
    """An import is looked for beside the file that names it, then beside the first, and may lead outside."""
    (tmp_path / "outside.libsonnet").write_text("{ v: 7 }")
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    (tmp_path / "in" / "deeper" / "a.libsonnet").write_text(
        "(import '../../outside.libsonnet') + (import 'b.libsonnet') + (import 'c.libsonnet')"
    )
    (tmp_path / "in" / "deeper" / "b.libsonnet").write_text("{ b: 'beside' }")
    (tmp_path / "in" / "b.libsonnet").write_text("{ b: 'above' }")
    (tmp_path / "in" / "c.libsonnet").write_text("{ c: 'above' }")
    (tmp_path / "in" / "note.txt").write_text("hello")
    text = "(import 'deeper/a.libsonnet') + { t: importstr 'note.txt' }"
    assert read(tmp_path, text, "in/x.jsonnet") == {"v": 7, "b": "beside", "c": "above", "t": "hello"}


def test_what_is_traced_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """``std.trace`` speaks to the user, and not into the data."""
    assert evaluate("{ a: std.trace('look', 1) }", "x.jsonnet", {}) == {"a": 1}
    said = capfd.readouterr()
    assert (said.out, "look" in said.err) == ("", True)


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("{ a: 1,\n  b: }", "x.jsonnet:2:6: not Jsonnet: expected one of", "mend it at this place"),
        ("", "x.jsonnet:1:2: not Jsonnet: ", "mend it"),
        ("{ a: b }", "x.jsonnet:1:6: variable is not defined: b", "mend it at this place"),
        ("{ a: error 'boom' }", "x.jsonnet:1:6: boom", "mend it at this place"),
        ("{ a: 1, assert self.a == 2 : 'two' }", "x.jsonnet:1:16: assert failed: two", "mend it"),
        ("{ a: { b: 1 / 0 } }", "x.jsonnet: a.b: attempted to divide by zero", "mend the expression"),
        ("{ a: function(x) x }", "x.jsonnet: a: tried to manifest function", "mend the expression"),
        (
            "{ a: std.extVar('RATE') }",
            "x.jsonnet:1:6: the variable 'RATE' is not set",
            "set it: `-D RATE=VALUE`, or `-D RATE` to take it from the environment",
        ),
        (
            "import 'no.libsonnet'",
            "x.jsonnet: can't resolve no.libsonnet from ",
            "imports are looked for beside",
        ),
        ("import 'broken.libsonnet'", "broken.libsonnet:2:5: not Jsonnet: ", "mend it at this place"),
        ("{ a: std.parseInt('x') }", 'x.jsonnet:1:6: "x" is not a base 10 integer', "mend it"),
        ("local f(x) = f(x + 1) + 1; { a: f(1) }", "x.jsonnet:1:14: stack overflow", "mend it"),
        ("{ a: 1e400 }", "x.jsonnet: one of its numbers is beyond all bounds", "mend it"),
        ("{ a: 1, a: 2 }", "x.jsonnet:1:12: duplicate field name: a", "mend it"),
        (b"{ a: '\xff' }", "x.jsonnet: not UTF-8 text (byte 6)", "save the file as UTF-8"),
        (
            "[" * 20_000 + "]" * 20_000,
            "x.jsonnet: its evaluation was ended by SIGSEGV",
            "nest its expressions",
        ),
        (
            "local d(n) = if n == 0 then 1 else [d(n - 1)]; d(200)",
            "x.jsonnet: nested too deeply",
            "keep below",
        ),
    ],
)
def test_mistakes_in_jsonnet(tmp_path: Path, text: str | bytes, message: str, remedy: str) -> None:
    """Each says file, line where the library tells it, fact and remedy; none ends the interpreter."""
    (tmp_path / "broken.libsonnet").write_text("{\n a: }")
    error = refused(tmp_path, text)
    assert error.message.startswith(message)
    assert error.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 1.5, 1e3, "b", true, null]}', {"a": [1, 1.5, 1000.0, "b", True, None]}),
        ('{\n\t"a": "\\ud83d\\ude00\\/"\n}', {"a": "😀/"}),
        ('\ufeff{"a": 12345678901234567890}', {"a": 12345678901234567890}),
    ],
)
def test_json_is_read(tmp_path: Path, text: str, value: Any) -> None:
    """What JSON writes otherwise than YAML is read, too: tabs, surrogates, escaped slashes."""
    assert read(tmp_path, text, "x.json") == value


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ('{\n "a": 1,\n}', "x.json:", "mend the file at this place; comments and trailing"),
        ("", "x.json:1:1: not JSON: ", "mend"),
        ("// a\n{}", "x.json:1:1: not JSON: ", "mend the file at this place; comments and trailing"),
        ('{"a": 1, "a": 2}', "x.json: 'a' is given twice", "keep one of them"),
        ('{"a": NaN}', "x.json: NaN is no number in JSON", "write it as a text, or use YAML"),
        ('{"a": ' + "1" * 5000 + "}", "x.json: a number has too many digits", "write it as a text"),
        ("[" * 100_000, "x.json: nested too deeply", "keep below 100 levels"),
        ("[" * 102 + "]" * 102, "x.json: nested too deeply", "keep below 100 levels"),
    ],
)
def test_mistakes_in_json(tmp_path: Path, text: str, message: str, remedy: str) -> None:
    """What is not JSON, or says something twice, is named with its place where there is one."""
    error = refused(tmp_path, text, "x.json")
    assert error.message.startswith(message)
    assert error.remedy.startswith(remedy)


def test_other_files_take_no_variables_from_the_environment(tmp_path: Path) -> None:
    """No variable of the process reaches an evaluation unasked."""
    code = (
        "from pathlib import Path; from dispatch.settings.document import read_document;"
        f"print(read_document(Path({str(tmp_path / 'x.jsonnet')!r}), {{'A': 'given'}}).content)"
    )
    (tmp_path / "x.jsonnet").write_text("{ a: std.extVar('A'), h: std.extVar('HOME') }")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "the variable 'HOME' is not set" in done.stderr


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], {}),
        (["A=b"], {"A": "b"}),
        (["A=b=c"], {"A": "b=c"}),
        (["A="], {"A": ""}),
        (["A"], {"A": "from the environment"}),
        (["A=b", "B=1", "A=c"], {"A": "c", "B": "1"}),
    ],
)
def test_variables_are_given_or_taken(words: list[str], found: dict[str, str]) -> None:
    """A value may hold '='; without a value it comes from the environment; the last one counts."""
    assert read_variables(words, {"A": "from the environment"}) == found


@pytest.mark.parametrize(
    ("word", "message", "remedy"),
    [
        ("=a", "variable '=a': has no name", "write NAME=VALUE"),
        ("", "variable '': has no name", "write NAME=VALUE"),
        ("B", "variable 'B': has no value, and the environment has none", "write B=VALUE, or export B"),
    ],
)
def test_variables_that_cannot_be_meant(word: str, message: str, remedy: str) -> None:
    """Each is named, with what to write."""
    with pytest.raises(ConfigurationError) as caught:
        read_variables([word], {})
    assert caught.value.message.startswith(message)
    assert caught.value.remedy == remedy


def test_the_library_is_loaded_for_jsonnet_alone(tmp_path: Path) -> None:
    """Reading YAML and JSON loads neither the library nor what starts its process."""
    (tmp_path / "x.yml").write_text("a: 1")
    (tmp_path / "x.json").write_text("{}")
    code = (
        "import sys; from pathlib import Path; from dispatch.settings.document import read_document;"
        f"[read_document(Path({str(tmp_path)!r}) / name) for name in ('x.yml', 'x.json')];"
        "print(sorted({'rjsonnet', 'subprocess', 'dispatch.settings.jsonnet'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_long_evaluation_can_be_interrupted() -> None:
    """Ctrl-C ends an evaluation that would take very long, and leaves no process behind."""
    long = "std.trace('begun', 1) + std.foldl(function(a, i) a + i, std.range(1, 2000000000), 0)"
    code = f"from dispatch.settings.jsonnet import evaluate; evaluate({long!r}, 'x', {{}})"
    caller = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert caller.stderr is not None
    assert "begun" in caller.stderr.readline()
    (child,) = Path(f"/proc/{caller.pid}/task/{caller.pid}/children").read_text().split()
    os.killpg(caller.pid, signal.SIGINT)
    _, err = caller.communicate(timeout=60)
    assert "KeyboardInterrupt" in err
    assert not Path(f"/proc/{child}").exists()


def test_what_is_read_is_what_json_can_hold(tmp_path: Path) -> None:
    """Whatever Jsonnet says survives JSON, because job files are JSON."""
    content = read(tmp_path, "{ a: [1, 1.5, 'x', true, null, { b: ['c'] }] }")
    assert json.loads(json.dumps(content)) == content
