"""The bill of materials of an image: valid by a public validator, whole, and the same from the same locks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from dispatch.environment import CondaImage, DockerfileImage, Environment
from dispatch.image.plan import plan_images
from dispatch.image.sbom import spdx
from dispatch.lock.model import CondaLock, CondaPackage, Lock, PipPin
from dispatch.testing.catalogue import (
    ORIGIN,
    FakeLocks,
    debian_image,
    debian_lock,
    environments,
    pip_image,
    pip_lock,
)
from dispatch.testing.images import FakeImageStore

CONDA = CondaLock(
    "linux-64",
    (("__glibc", "2.36"),),
    "0" * 64,
    (
        CondaPackage(
            "python", "3.11.9", "h1_0", "conda-forge", "linux-64", "python-3.11.9-h1_0.conda", "a" * 64, 9
        ),
        CondaPackage(
            "six",
            "1!1.16+x",
            "py_0",
            "https://me:secret@conda.example.org/team",
            "noarch",
            "six-1.16-py_0.tar.bz2",
            "b" * 64,
            3,
            "python",
            ("python >=3.6",),
        ),
        CondaPackage(
            "mine", "1.0", "0", "file:///home/me/channel", "noarch", "mine-1.0-0.conda", "c" * 64, 1
        ),
    ),
)
PIP = replace(
    pip_lock("numpy==2.0", "scipy==1.14"),
    pins=(
        PipPin("numpy", "2.0", ("sha256:" + "1" * 64, "sha256:" + "2" * 64), ("scipy", "-r requirements.in")),
        PipPin("scipy", "1.14+cu12", ("sha256:" + "3" * 64,)),
    ),
    indexes=("https://me:secret@pypi.example.org/simple/",),
    own_default=True,
)
CATALOGUE = {
    **environments(
        base=debian_image(),
        ml=pip_image("ml"),
        upon=pip_image("upon", base="python:3.11@sha256:" + "0" * 64),
    ),
    "forge": Environment(
        "forge", CondaImage(Path("/repo/environment.yml"), Path("/repo/c.lock"), "base"), ORIGIN
    ),
}
LOCKS: dict[str, Lock] = {
    "base": debian_lock(),
    "ml": PIP,
    "upon": replace(PIP, own_default=False),
    "forge": CONDA,
}


class Bill(Protocol):
    """Writes the document of images."""

    def __call__(self, *names: str) -> dict[str, Any]:
        """Return it."""


@pytest.fixture
def bill(tmp_path: Path) -> Bill:
    """Writes documents; the image ``ran`` has a Dockerfile."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("ARG BASE\nFROM $BASE\nRUN true\n")
    ran = Environment("ran", DockerfileImage(context / "Dockerfile", context, "ml"), ORIGIN)
    catalogue = {**CATALOGUE, "ran": ran}

    def write(*names: str) -> dict[str, Any]:
        return spdx(plan_images(names, catalogue, FakeLocks(LOCKS), FakeImageStore()), "dispatch-1.0")

    return write


def found(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The packages of a document by name."""
    return {package["name"]: package for package in document["packages"]}


@pytest.mark.parametrize(
    "names", [("base",), ("ml",), ("forge",), ("upon",), ("ran",), ("ml", "forge", "ran")]
)
def test_valid(names: tuple[str, ...], bill: Bill, tmp_path: Path) -> None:
    """The public validator finds nothing wrong with the document of any kind of image, or of several."""
    file = tmp_path / "image.spdx.json"
    file.write_text(json.dumps(bill(*names)))
    messages = validate_full_spdx_document(parse_file(str(file)), "SPDX-2.3")
    assert [message.validation_message for message in messages] == []


def test_all_that_the_locks_say(bill: Bill) -> None:
    """Every locked package is there with version, digest and address, below its image and that one's base."""
    packages = found(bill("ml"))
    assert sorted(packages) == ["base", "libc6", "ml", "numpy", "python3", "scipy"]
    assert [each["checksumValue"] for each in packages["numpy"]["checksums"]] == ["1" * 64, "2" * 64]
    assert "one of the files" in packages["numpy"]["comment"] and "comment" not in packages["scipy"]
    purls = {
        name: each["externalRefs"][0]["referenceLocator"]
        for name, each in packages.items()
        if "externalRefs" in each
    }
    assert purls == {
        "libc6": "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=bookworm",
        "python3": "pkg:deb/debian/python3@3.11.2-1%2Bb1?arch=amd64&distro=bookworm",
        "numpy": "pkg:pypi/numpy@2.0",
        "scipy": "pkg:pypi/scipy@1.14%2Bcu12",
    }


def test_who_needs_whom(bill: Bill) -> None:
    """Images contain packages and stand on images; packages need packages, as far as locks tell."""
    document = bill("ml")
    names = {package["SPDXID"]: package["name"] for package in document["packages"]}
    related = {
        (names.get(each["spdxElementId"], "-"), each["relationshipType"], names[each["relatedSpdxElement"]])
        for each in document["relationships"]
    }
    assert {
        ("-", "DESCRIBES", "ml"),
        ("ml", "CONTAINS", "numpy"),
        ("ml", "DESCENDANT_OF", "base"),
        ("base", "CONTAINS", "libc6"),
        ("scipy", "DEPENDS_ON", "numpy"),
    } <= related
    assert ("ml", "CONTAINS", "libc6") not in related


def test_no_credentials_and_no_places_of_this_machine(bill: Bill) -> None:
    """Addresses that the declaration names are given without credentials; a path of this machine is not."""
    document = bill("ml", "forge")
    text = json.dumps(document)
    assert "secret" not in text and "/home/me" not in text
    packages = found(document)
    assert packages["numpy"]["downloadLocation"] == "https://pypi.example.org/simple/numpy/"
    assert packages["six"]["downloadLocation"] == (
        "https://conda.example.org/team/noarch/six-1.16-py_0.tar.bz2"
    )
    assert packages["python"]["downloadLocation"] == "NOASSERTION"
    assert "channel=conda-forge" in packages["python"]["externalRefs"][0]["referenceLocator"]


def test_what_is_not_known_is_said(bill: Bill) -> None:
    """What steps installed, and what is in somebody else's image, is in no lock: the document says so."""
    ran, upon = found(bill("ran")), found(bill("upon"))
    assert "is not listed here" in ran["ran"]["comment"]
    (theirs,) = (each for name, each in upon.items() if name.startswith("python:"))
    assert "is not listed here" in theirs["comment"]
    locator = theirs["externalRefs"][0]["referenceLocator"]
    assert locator == "pkg:docker/python@" + "sha256%3A" + "0" * 64


def test_reproducible(bill: Bill) -> None:
    """The same locks give the same document; another lock gives another name space."""
    assert bill("ml") == bill("ml")
    other = bill("ml", "forge")
    assert other["documentNamespace"] != bill("ml")["documentNamespace"]
    assert bill("ml")["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
