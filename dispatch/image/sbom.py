"""What is in an image, as a bill of materials: SPDX 2.3, written from the locks alone.

Owns the way from a plan's locks to an SPDX document. The same locks give the same document, byte for byte:
its time is that of the youngest base, its name space a digest of its content. Refuses to look into an image
(``verify`` does), and to guess: what steps inside of an image install is in no lock, and the document says
so.

Sources of the formats: the SPDX specification 2.3 (its JSON schema), and the package URL specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from dispatch.environment import DockerfileImage, DockerImage
from dispatch.image.plan import BuildPlan, Generated, ImagePlan
from dispatch.image.spec import canonical_digest, timestamp
from dispatch.lock.model import CondaLock, CondaPackage, DebianLock, DebianPackage, Lock, PipLock, PipPin

_UNKNOWN = "NOASSERTION"
_DOCUMENT = "SPDXRef-DOCUMENT"
_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_ONE_OF = "The image holds one of the files with these checksums: the lock allows each of them."
_STEPS = "Steps inside of the image made it: what they installed is in no lock, and is not listed here."
_THEIRS = "Somebody else made it: what is in it is in no lock, and is not listed here."


def spdx(plan: BuildPlan, tool: str) -> dict[str, Any]:
    """Return the document of the images that a plan was made for; ``tool`` is ``dispatch-<version>``."""
    bill = _Bill()
    by_key = {image.key: image for image in plan.images}
    for name, key in sorted(plan.names.items()):
        bill.relate(_DOCUMENT, "DESCRIBES", bill.image(by_key[key], by_key, name))
    created = max(
        (each.source.spec.epoch for each in plan.images if isinstance(each.source, Generated)), default=0
    )
    names = ", ".join(sorted(plan.names))
    body = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": names,
        "creationInfo": {"created": timestamp(created), "creators": [f"Tool: {tool}"]},
        "packages": [bill.packages[key] for key in sorted(bill.packages)],
        "relationships": bill.relationships(),
    }
    readable = "-".join(_WORD.findall(names))[:60]
    return {
        **body,
        "documentNamespace": f"https://spdx.org/spdxdocs/dispatch-{readable}-{canonical_digest(body)}",
    }


@dataclass
class _Bill:
    """A document while it is written; ``packages`` by their SPDX id."""

    packages: dict[str, dict[str, Any]] = field(default_factory=dict)
    _related: set[tuple[str, str, str]] = field(default_factory=set)

    def relate(self, one: str, how: str, other: str) -> None:
        """Note a relationship, once."""
        self._related.add((one, how, other))

    def relationships(self) -> list[dict[str, str]]:
        """Return all relationships, in one order."""
        return [
            {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}
            for one, how, other in sorted(self._related)
        ]

    def image(self, image: ImagePlan, known: Mapping[str, ImagePlan], name: str) -> str:
        """Add an image with all below it, and return its id."""
        source = image.source
        package = _package("Image", name, image.digest or "", image.key)
        package["primaryPackagePurpose"] = "CONTAINER"
        if isinstance(source, Generated):
            package["sourceInfo"] = (
                f"made by dispatch for {source.spec.platform or 'the platform of its base'}"
            )
            if isinstance(source.environment.declaration, DockerfileImage):
                package["comment"] = _STEPS
        else:
            package["comment"] = _THEIRS
            if isinstance(source, DockerImage):
                package["externalRefs"] = [_purl(_docker(source.reference))]
        identity = str(package["SPDXID"])
        if identity in self.packages:
            return identity
        self.packages[identity] = package
        if isinstance(source, Generated):
            if source.lock is not None:
                self._contain(identity, source.lock)
            if source.base:
                below = known[source.base]
                self.relate(identity, "DESCENDANT_OF", self.image(below, known, sorted(below.tags)[0]))
        return identity

    def _contain(self, image: str, lock: Lock) -> None:
        """Add the packages of a lock, and who of them needs whom."""
        found: dict[str, str] = {}
        for name, package in _packages(lock):
            found[name] = str(package["SPDXID"])
            self.packages[found[name]] = package
            self.relate(image, "CONTAINS", found[name])
        for name, needed in _needs(lock):
            if name in found and needed in found:
                self.relate(found[name], "DEPENDS_ON", found[needed])


def _packages(lock: Lock) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(lock, PipLock):
        for pin in lock.pins:
            yield pin.name, _pip(pin, lock)
    elif isinstance(lock, CondaLock):
        for conda in lock.packages:
            yield conda.name, _conda(conda)
    else:
        assert isinstance(lock, DebianLock)
        for debian in lock.packages:
            yield debian.name, _debian(debian)


def _needs(lock: Lock) -> Iterator[tuple[str, str]]:
    """Yield pairs of names: who needs whom, as far as the lock tells."""
    if isinstance(lock, PipLock):
        for pin in lock.pins:
            for parent in pin.via:
                yield parent, pin.name
    elif isinstance(lock, CondaLock):
        for package in lock.packages:
            for specification in package.depends:
                yield package.name, re.split(r"[\s=<>!~\[]", specification.strip(), maxsplit=1)[0]


def _pip(pin: PipPin, lock: PipLock) -> dict[str, Any]:
    package = _package("pip", pin.name, pin.version, sorted(pin.hashes))
    if lock.own_default and lock.indexes:
        package["downloadLocation"] = f"{_without_credentials(lock.indexes[0]).rstrip('/')}/{pin.name}/"
    package["checksums"] = _checksums(each.partition(":")[2] for each in pin.hashes)
    if len(pin.hashes) > 1:
        package["comment"] = _ONE_OF
    package["externalRefs"] = [_purl(f"pkg:pypi/{_quoted(pin.name)}@{_quoted(pin.version)}")]
    return package


def _conda(conda: CondaPackage) -> dict[str, Any]:
    package = _package("conda", conda.name, conda.version, conda.sha256)
    qualifiers = {"build": conda.build, "subdir": conda.subdir, "type": conda.file.rpartition(".")[2]}
    scheme = urlsplit(conda.channel).scheme
    if scheme in ("http", "https"):
        channel = _without_credentials(conda.channel).rstrip("/")
        package["downloadLocation"] = f"{channel}/{quote(conda.subdir)}/{quote(conda.file)}"
        qualifiers["channel"] = channel
    elif not scheme and _WORD.fullmatch(conda.channel):
        qualifiers["channel"] = conda.channel
    package["packageFileName"] = conda.file
    package["checksums"] = _checksums([conda.sha256])
    text = "&".join(f"{key}={_quoted(value)}" for key, value in sorted(qualifiers.items()) if value)
    package["externalRefs"] = [_purl(f"pkg:conda/{_quoted(conda.name)}@{_quoted(conda.version)}?{text}")]
    return package


def _debian(debian: DebianPackage) -> dict[str, Any]:
    package = _package("deb", debian.name, debian.version, debian.sha256)
    package["packageFileName"] = debian.path.rpartition("/")[2]
    package["checksums"] = _checksums([debian.sha256])
    where = f"arch={_quoted(debian.architecture)}&distro={_quoted(debian.suite)}"
    package["externalRefs"] = [
        _purl(f"pkg:deb/debian/{_quoted(debian.name)}@{_quoted(debian.version)}?{where}")
    ]
    return package


def _package(kind: str, name: str, version: str, content: object) -> dict[str, Any]:
    """Return what every package says; its id is its own among all with another content."""
    mark = canonical_digest([kind, name, version, content])[:12]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", f"{name}-{version[:40]}").strip("-.")
    package = {
        "SPDXID": f"SPDXRef-{kind}-{readable}-{mark}",
        "name": name,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": _UNKNOWN,
        "copyrightText": _UNKNOWN,
    }
    return {**package, "versionInfo": version} if version else package


def _checksums(digests: Iterable[str]) -> list[dict[str, str]]:
    return [{"algorithm": "SHA256", "checksumValue": digest} for digest in sorted(digests)]


def _purl(locator: str) -> dict[str, str]:
    return {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": locator,
    }


def _docker(reference: str) -> str:
    name, _, digest = reference.partition("@")
    repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    version = digest or tag
    place, _, short = repository.rpartition("/")
    return (
        f"pkg:docker/{_quoted(short)}{f'@{_quoted(version)}' if version else ''}"
        f"{f'?repository_url={_quoted(place)}' if place else ''}"
    )


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _without_credentials(address: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
