"""Which lines of a requirements file can be locked, and what their digest covers."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatch.errors import ConfigurationError
from dispatch.lock.model import Target
from dispatch.lock.requirements import read_requirements

TARGET = Target("3.11", "2.36", "x86_64")


def write(directory: Path, text: str, name: str = "a.in") -> Path:
    """Write a requirements file and return its path."""
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("numpy", ("numpy",)),
        ("numpy  >=1.2 ,<2  # why\n\n# note\n", ("numpy >=1.2 ,<2",)),
        ("torch[a, b]~=2.0; python_version < '3.12'", ("torch[a, b]~=2.0; python_version < '3.12'",)),
        ("scikit-learn==1.5.*", ("scikit-learn==1.5.*",)),
        ("numpy \\\n  >=1\nscipy", ("numpy >=1", "scipy")),
        ("name (>=1,<2)", ("name (>=1,<2)",)),
        ("\ufeffnumpy\r\nscipy", ("numpy", "scipy")),
        ("--only-binary :all:\nnumpy", ("numpy",)),
    ],
)
def test_lines(tmp_path: Path, text: str, lines: tuple[str, ...]) -> None:
    """Comments, layout and continuations go; the requirement stays as it is written."""
    assert read_requirements(write(tmp_path, text)).lines == lines


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("-e .", "editable"),
        ("--editable=.", "editable"),
        ("git+https://example.org/x.git", "no hash in an index"),
        ("x @ https://example.org/x.whl", "no hash in an index"),
        ("https://example.org/x.tar.gz", "no hash in an index"),
        ("./x", "local path"),
        ("../x", "local path"),
        ("/tmp/x", "local path"),
        ("x-1.0-py3-none-any.whl", "local path"),
        ("numpy=>1", "not a requirement"),
        ("numpy scipy", "not a requirement"),
        ("$(id)", "not a requirement"),
        ("numpy==${VERSION}", "variable"),
        ("numpy==1 --hash=sha256:00", "--hash=sha256:00"),
        ("--find-links dir", "--find-links"),
        ("--no-binary :all:", "--no-binary"),
        ("--index-url https://user:secret@example.org/simple", "credentials"),
        ("--extra-index-url=https://example.org/simple?token=secret", "credentials"),
        ("--extra-index-url https://${TOKEN}@example.org/simple", "variable"),
        ("-i file:///srv/index", "http or https"),
        ("-r missing.in", "missing.in"),
        ("-c https://example.org/c.txt", "path of a file"),
        ("-r a.in", "includes itself"),
    ],
)
def test_refused(tmp_path: Path, line: str, fact: str) -> None:
    """What cannot be locked is refused with file, line, fact and remedy, and no secret is shown."""
    path = write(tmp_path, f"rich\n{line}\n")
    with pytest.raises(ConfigurationError) as caught:
        read_requirements(path)
    assert f"{path}, line 2: " in caught.value.message
    assert fact in caught.value.message
    assert caught.value.remedy
    assert "secret" not in caught.value.message + caught.value.remedy


def test_includes(tmp_path: Path) -> None:
    """Includes and constraints are relative to the file that names them; indexes are kept in order."""
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", "scipy\n-c limits.txt\n--extra-index-url https://b.example/simple", "more.in")
    write(tmp_path / "sub", "numpy<2\n", "limits.txt")
    path = write(tmp_path, "-r sub/more.in\nrich\n-i https://a.example/simple\n--pre\n")
    found = read_requirements(path)
    assert found.lines == ("scipy", "rich")
    assert found.constraints == ("numpy<2",)
    assert found.indexes == ("https://a.example/simple", "https://b.example/simple")
    assert found.prereleases
    assert found.names == {"scipy", "rich"}


def test_digest(tmp_path: Path) -> None:
    """The digest follows requirements, constraints, indexes and target, and no comment or path."""
    (tmp_path / "elsewhere").mkdir()
    plain = read_requirements(write(tmp_path, "rich\n")).digest(TARGET)
    assert (
        read_requirements(write(tmp_path / "elsewhere", "# x\nrich  # y\n", "b.in")).digest(TARGET) == plain
    )
    others = {
        read_requirements(write(tmp_path, text)).digest(TARGET)
        for text in ("rich>1\n", "rich\n--pre\n", "rich\n-i https://a.example/s\n", "rich\nnumpy\n")
    }
    write(tmp_path, "rich", "limits.txt")
    others.add(read_requirements(write(tmp_path, "rich\n-c limits.txt\n")).digest(TARGET))
    others.add(read_requirements(write(tmp_path, "rich\n")).digest(Target("3.12", "2.36", "x86_64")))
    assert len(others) == 6
    assert plain not in others


def test_missing_file(tmp_path: Path) -> None:
    """A requirements file that is not there is an error that names it."""
    with pytest.raises(ConfigurationError, match=r"absent\.in cannot be read: No such file"):
        read_requirements(tmp_path / "absent.in")
