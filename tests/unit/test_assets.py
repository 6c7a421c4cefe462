"""Where templates/ and images/ are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatch import assets
from dispatch.errors import DispatchError


def test_an_installed_package_uses_its_own_folders(tmp_path: Path) -> None:
    """A wheel's ``_templates`` and ``_images`` win, even if a checkout's folders stand beside the package."""
    package = tmp_path / "dispatch"
    for folder in (package / "_templates", package / "_images", tmp_path / "templates", tmp_path / "images"):
        folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    assert assets.templates(package) == package / "_templates"
    assert assets.images(package) == package / "_images"


def test_a_checkout_uses_its_live_folders(tmp_path: Path) -> None:
    """Under an editable install the checkout's folders are used, with pyproject.toml as the witness."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "pyproject.toml").touch()
    assert assets.templates(tmp_path / "dispatch") == tmp_path / "templates"


def test_a_stray_folder_is_not_ours(tmp_path: Path) -> None:
    """A folder ``images`` beside the package in site-packages is somebody else's: an error with a remedy."""
    (tmp_path / "images").mkdir()
    with pytest.raises(DispatchError, match="images") as caught:
        assets.images(tmp_path / "dispatch")
    assert caught.value.remedy


def test_this_installation_has_both() -> None:
    """The folders that the code under test ships with are there."""
    assert (assets.templates() / "entrypoint").is_dir()
    assert assets.images().is_dir()
