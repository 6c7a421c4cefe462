"""Finds the folders that ship beside the code: ``templates/`` and ``images/``.

In an installed wheel they are ``dispatch/_templates`` and ``dispatch/_images``; under an editable install
they are the checkout's own folders, so that an edit there is live. Refuses to look anywhere else.
"""

from __future__ import annotations

from pathlib import Path

from dispatch.errors import DispatchError

PACKAGE = Path(__file__).parent


def templates(package: Path = PACKAGE) -> Path:
    """Return the folder of the templates; DispatchError if the installation lacks it."""
    return _folder(package, "templates")


def images(package: Path = PACKAGE) -> Path:
    """Return the folder of the images that ship with the package; DispatchError if it is missing."""
    return _folder(package, "images")


def _folder(package: Path, name: str) -> Path:
    installed = package / f"_{name}"
    if installed.is_dir():
        return installed
    checkout = package.parent
    # Without this witness any folder called "images" in site-packages would be taken for ours.
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    raise DispatchError(
        f"{name}: neither {installed} nor a checkout's {name}/ is there",
        remedy="reinstall dispatch-toolchain",
    )
