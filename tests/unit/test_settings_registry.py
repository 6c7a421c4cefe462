"""Where a team shares its images: addresses in settings, in the environment and by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatch.app import App
from dispatch.errors import ConfigurationError
from dispatch.reporting import Lines
from dispatch.settings import (
    RegistrySetting,
    Settings,
    WorkspaceSetting,
    parse_registry,
    read_environment,
    read_settings,
)

ADDRESSES = [
    "ghcr.io/my-team",
    "ghcr.io",
    "localhost/team",
    "localhost:5000",
    "registry:5000/a/b-c",
    "127.0.0.1:5000",
    "[::1]:5000/team",
]
NONE = [
    "",
    "team",
    "team/images",
    "https://ghcr.io/team",
    "ghcr.io/Team",
    "ghcr.io/team:tag",
    "ghcr.io/team/",
    "ghcr.io//team",
    "me:secret@ghcr.io/team",
    "ghcr.io/team\n",
    "-x.io/team",
]


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "dispatch.yml"
    path.write_text(text)
    return read_settings(path, tmp_path, WorkspaceSetting("local", tmp_path / "workspace"))


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses(tmp_path: Path, address: str) -> None:
    """A host, perhaps with a port, and a path: images are in a repository below it."""
    assert parse_registry(address).repository == f"{address}/dispatch"
    assert settings(tmp_path, f"registry: '{address}'").registry == RegistrySetting(address)


@pytest.mark.parametrize("address", NONE)
def test_what_is_no_address(tmp_path: Path, address: str) -> None:
    """Anything else is refused where it stands, before anything is asked."""
    with pytest.raises(ConfigurationError):
        parse_registry(address)
    with pytest.raises(ConfigurationError, match=r"dispatch\.yml:1:\d+: registry"):
        settings(tmp_path, f'registry: "{address}"'.replace("\n", "\\n"))


def test_how_it_is_trusted(tmp_path: Path) -> None:
    """A mapping says how; a file is relative to the settings, unknown keys are refused."""
    text = "registry: {address: 'registry.lan:5000', insecure: true, authority: ca.pem}"
    found = RegistrySetting("registry.lan:5000", True, tmp_path / "ca.pem")
    assert settings(tmp_path, text).registry == found
    with pytest.raises(ConfigurationError, match="password"):
        settings(tmp_path, "registry: {address: ghcr.io, password: x}")
    with pytest.raises(ConfigurationError, match="address"):
        settings(tmp_path, "registry: {insecure: true}")


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        ("", RegistrySetting("registry.lan:5000", True)),
        ("registry.lan:5000", RegistrySetting("registry.lan:5000", True)),
        ("ghcr.io/team", RegistrySetting("ghcr.io/team")),
    ],
)
def test_the_environment_wins(tmp_path: Path, variable: str, found: RegistrySetting) -> None:
    """What the environment names counts; the same address is trusted as the settings say."""
    held = settings(tmp_path, "registry: {address: 'registry.lan:5000', insecure: true}")
    surroundings = read_environment({"HOME": str(tmp_path), "DISPATCH_REGISTRY": variable})
    assert App(held, surroundings, None, tmp_path, Lines(lambda _: None)).registry == found
