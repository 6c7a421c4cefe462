"""How pip's settings reach uv, and what of them may be shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from dispatch.errors import ConfigurationError
from dispatch.lock.index import Indexes, pip_config_files, read_pip_settings

ALWAYS = {"LC_ALL", "NO_COLOR", "UV_NO_PROGRESS", "UV_PYTHON_DOWNLOADS", "UV_INDEX_STRATEGY"}


def translated(environ: Mapping[str, str], **options: object) -> dict[str, str]:
    """Return what uv would see of a bare environment without configuration files."""
    found = Indexes(environ, read_pip_settings(environ, ()))
    return {k: v for k, v in found.for_uv(**options).items() if k not in ALWAYS}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {}),
        ({"PIP_INDEX_URL": "https://a/s"}, {"UV_DEFAULT_INDEX": "https://a/s"}),
        ({"PIP_EXTRA_INDEX_URL": "https://a/s\n https://b/s"}, {"UV_INDEX": "https://a/s https://b/s"}),
        ({"PIP_FIND_LINKS": "/nowhere https://a/files"}, {"UV_FIND_LINKS": "https://a/files"}),
        ({"PIP_CERT": "/ca.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"PIP_CERT": "/ca.pem", "SSL_CERT_FILE": "/mine.pem"}, {"SSL_CERT_FILE": "/mine.pem"}),
        ({"PIP_TRUSTED_HOST": "a b:8080"}, {"UV_INSECURE_HOST": "a b:8080"}),
        ({"PIP_PROXY": "http://p:1"}, {"HTTP_PROXY": "http://p:1", "HTTPS_PROXY": "http://p:1"}),
        ({"PIP_TIMEOUT": "9", "PIP_RETRIES": "2"}, {"UV_HTTP_TIMEOUT": "9", "UV_HTTP_RETRIES": "2"}),
        ({"PIP_CONSTRAINT": "/c.txt"}, {}),
        ({"PIP_INDEX_URL": "https://a/s", "UV_INDEX_URL": "https://b/s"}, {"UV_INDEX_URL": "https://b/s"}),
        ({"PIP_EXTRA_INDEX_URL": "https://a/s", "UV_INDEX": "x=https://b/s"}, {"UV_INDEX": "x=https://b/s"}),
        ({"UV_PYTHON": "3.9", "UV_SYSTEM_PYTHON": "1", "UV_TARGET": "/x", "VIRTUAL_ENV": "/v"}, {}),
        ({"BEAKER_TOKEN": "t", "PYTHONPATH": "/x", "HOME": "/h"}, {"HOME": "/h"}),
    ],
)
def test_variables(environ: dict[str, str], expected: dict[str, str]) -> None:
    """Each of pip's settings has its counterpart; an explicit UV_* wins; nothing else gets through."""
    assert translated(environ) == expected


@pytest.mark.parametrize(
    ("environ", "forbidden"),
    [
        ({"PIP_NO_INDEX": "1"}, True),
        ({"PIP_NO_INDEX": "false"}, False),
        ({"PIP_NO_INDEX": "1", "UV_INDEX": "https://a/s"}, False),
        ({}, False),
    ],
)
def test_no_index(environ: dict[str, str], forbidden: bool) -> None:
    """pip's no-index holds for uv, too, unless an index is named to uv."""
    assert Indexes(environ, read_pip_settings(environ, ())).forbidden is forbidden


def test_constraint_only_for_locking() -> None:
    """The machine's constraints apply where versions are chosen, and not where a lock is installed."""
    assert translated({"PIP_CONSTRAINT": "/c.txt"}, compiling=True) == {"UV_CONSTRAINT": "/c.txt"}


def test_declared_indexes() -> None:
    """An index that the requirements name comes first; --index-url there replaces the machine's default."""
    environ = {"PIP_INDEX_URL": "https://m/s", "PIP_EXTRA_INDEX_URL": "https://n/s"}
    assert translated(environ, declared=("https://a/s",)) == {
        "UV_DEFAULT_INDEX": "https://m/s",
        "UV_INDEX": "https://a/s https://n/s",
    }
    assert translated(environ, declared=("https://a/s", "https://b/s"), own_default=True) == {
        "UV_DEFAULT_INDEX": "https://a/s",
        "UV_INDEX": "https://b/s https://n/s",
    }


def test_configuration_files(tmp_path: Path) -> None:
    """Files are read in pip's order, sections with the command's own last, variables win over files."""
    environ = {
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_DIRS": str(tmp_path / "xdg"),
        "VIRTUAL_ENV": str(tmp_path / "venv"),
        "PIP_TIMEOUT": "4",
    }
    for place, text in (
        ("xdg/pip/pip.conf", "[global]\nindex-url = https://xdg/s\ntimeout = 1\nretries = 1\ncert = /xdg\n"),
        (
            "home/.config/pip/pip.conf",
            "[install]\nretries = 2\n[global]\nretries = 9\nfind_links =\n  /a\n  /b\n",
        ),
        ("venv/pip.conf", "[global]\ncert = /venv\n"),
    ):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text(text)
    files = [path for path in pip_config_files(environ) if tmp_path in path.parents]
    settings = read_pip_settings(environ, files)
    assert settings["find-links"].split() == ["/a", "/b"]
    del settings["find-links"]
    assert settings == {"index-url": "https://xdg/s", "timeout": "4", "retries": "2", "cert": "/venv"}


def test_configuration_file_variable(tmp_path: Path) -> None:
    """PIP_CONFIG_FILE replaces the user's files; the null device turns all files off."""
    own = tmp_path / "own.conf"
    own.write_text("[global]\ntimeout = 7\n")
    files = pip_config_files({"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(own)})
    assert files[-1] == own
    assert not any(tmp_path / part in files for part in (".pip/pip.conf", ".config/pip/pip.conf"))
    assert pip_config_files({"HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}) == ()


def test_broken_configuration_file(tmp_path: Path) -> None:
    """A configuration file that pip could not read either is named, its content is not shown."""
    path = tmp_path / "pip.conf"
    path.write_text("index-url = https://user:secret@host/s\n")
    with pytest.raises(ConfigurationError, match=r"pip\.conf cannot be parsed") as caught:
        read_pip_settings({}, [path])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://user:hidden@pkgs.corp/simple/x/ 401", "at <index> 401"),
        ("lookup of pkgs.corp failed", "lookup of <index> failed"),
        ("file:///srv/hidden/simple/x is missing", "<index> is missing"),
        ("directory /srv/hidden/simple not found", "directory <index> not found"),
        ("https://files.corp/a.whl", "<index>"),
        ("proxy.corp:3128 refused", "<index> refused"),
        ("see https://declared.example/simple/x/", "see https://declared.example/simple/x/"),
        ("see https://u:p@declared.example/simple", "see https://declared.example/simple"),
        ("package rich needs pygments>=2", "package rich needs pygments>=2"),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    """Addresses, hosts, credentials and paths known from the machine alone are replaced."""
    environ = {
        "PIP_INDEX_URL": "https://user:hidden@pkgs.corp/simple",
        "PIP_EXTRA_INDEX_URL": "file:///srv/hidden/simple",
        "PIP_PROXY": "http://proxy.corp:3128",
    }
    indexes = Indexes(environ, read_pip_settings(environ, ()))
    assert indexes.redact(text, ("https://declared.example/simple",)) == shown
