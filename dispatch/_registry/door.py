"""One registry, as its images: manifests, blobs and tags.

Owns what is asked of a registry, each thing repeated while it is busy. Refuses to know engines and layers.

Source: the OCI distribution specification.
"""

from __future__ import annotations

import contextlib
from urllib.parse import quote, urljoin

from dispatch._registry.blobs import UPLOAD_PIECE, Download, Transfer, Upload, pull_scope, push_scope
from dispatch._registry.calls import Calls, missing, unintelligible
from dispatch._registry.credentials import Logins
from dispatch._registry.line import LONGEST_BODY, Answer
from dispatch._registry.manifest import ACCEPTED, Descriptor, Index, Manifest, digest_of, read_manifest
from dispatch._registry.patience import Patience
from dispatch._registry.problems import (
    RegistryBusyError,
    RegistryDeniedError,
    RegistryError,
)
from dispatch._registry.reference import Reference, checked_digest
from dispatch._registry.way import Way

_ACCEPT = {"Accept": ", ".join(ACCEPTED)}


class RegistryDoor:
    """The registry at ``host``. Making one sends nothing and reads nothing; safe to share between threads.

    ``piece`` is how many bytes one request of an upload sends at most.

    All methods raise RegistryError: where the registry is not there, does not let us, or refuses.
    """

    def __init__(
        self,
        host: str,
        logins: Logins,
        way: Way | None = None,
        patience: Patience | None = None,
        piece: int = UPLOAD_PIECE,
    ) -> None:
        self.host = host
        self._piece = piece
        self._calls = Calls(host, logins, way or Way())
        self._patience = patience or Patience()

    def digest(self, reference: Reference) -> str | None:
        """Return the digest of the image that a reference is of now, None where there is none."""

        def attempt() -> str | None:
            answer = self._manifest("HEAD", reference)
            if answer.status == 404:
                return None
            told = answer.headers.get("docker-content-digest")
            if told:
                return checked_digest(told)
            whole = self._manifest("GET", reference)
            return digest_of(whole.body) if whole.status == 200 else None

        return self._patience.until_done(attempt)

    def manifest(self, reference: Reference) -> Manifest | Index | None:
        """Return the manifest of a reference, None where there is none."""

        def attempt() -> Manifest | Index | None:
            answer = self._manifest("GET", reference)
            if answer.status == 404:
                return None
            # A tag may mean anything, so the registry itself says which digest it should have.
            expected = reference.digest or answer.headers.get("docker-content-digest", "")
            if expected and digest_of(answer.body) != expected:
                raise RegistryBusyError(f"image {reference}: its manifest arrives damaged")
            return read_manifest(answer.body, answer.headers.get("content-type", ""), f"image {reference}")

        return self._patience.until_done(attempt)

    def put_manifest(self, reference: Reference, manifest: Manifest | Index) -> str:
        """Make ``manifest`` the image of a reference's tag (or digest) and return its digest.

        Every part of it has to be in the repository.
        """
        kind = {"Content-Type": manifest.media_type}

        def attempt() -> str:
            path = f"/v2/{reference.repository}/manifests/{reference.pointer}"
            answer = self._calls.ask("PUT", path, (push_scope(reference.repository),), kind, manifest.body)
            if answer.status == 404:
                raise missing(f"image {reference}", answer.detail)
            told = answer.headers.get("docker-content-digest", manifest.digest)
            if told != manifest.digest:
                raise RegistryBusyError(f"image {reference}: its manifest arrived damaged")
            return manifest.digest

        return self._patience.until_done(attempt)

    def tag(self, reference: Reference, tag: str) -> str:
        """Give an image another tag in its repository and return its digest; nothing else is sent."""
        manifest = self.manifest(reference)
        if manifest is None:
            raise missing(f"image {reference}")
        return self.put_manifest(reference.tagged(tag), manifest)

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository, in order; none where there is no such repository."""
        found: list[str] = []
        path = f"/v2/{repository}/tags/list?n=1000"
        while path:
            answer = self._patience.until_done(
                lambda at=path: self._calls.ask("GET", at, (pull_scope(repository),))  # type: ignore[misc]
            )
            if answer.status == 404:
                break
            found += self._tags_of(answer)
            path = next_page(answer)
        return sorted(set(found))

    def blob(self, repository: str, blob: Descriptor) -> bytes:
        """Return a small blob: the configuration of an image."""
        path = f"/v2/{repository}/blobs/{blob.digest}"
        what = f"blob {blob.digest[:19]} of {self.host}/{repository}"
        if blob.size > LONGEST_BODY:
            raise RegistryError(f"{what}: {blob.size} bytes are no configuration of an image")

        def attempt() -> bytes:
            answer = self._calls.ask("GET", path, (pull_scope(repository),))
            if answer.status == 404:
                raise missing(what)
            if digest_of(answer.body) != blob.digest:
                raise RegistryBusyError(f"{what}: what the registry sends does not have this digest")
            return answer.body

        return self._patience.until_done(attempt)

    def has_blob(self, repository: str, digest: str) -> bool:
        """Tell whether a repository has a blob."""
        path = f"/v2/{repository}/blobs/{quote(digest)}"
        scopes = (push_scope(repository),)
        return self._patience.until_done(lambda: self._calls.ask("HEAD", path, scopes)).status == 200

    def mount(self, repository: str, digest: str, origin: str) -> bool:
        """Take a blob over from another repository of this registry; False where the registry does not."""
        path = f"/v2/{repository}/blobs/uploads/?mount={quote(digest)}&from={quote(origin)}"
        scopes = (push_scope(repository), pull_scope(origin))
        try:
            answer = self._patience.until_done(lambda: self._calls.ask("POST", path, scopes, body=b""))
        except RegistryDeniedError:
            return False  # we may write here, but not read there
        if answer.status == 202:
            # What cannot be mounted is an upload that was begun, and that nobody will end.
            with contextlib.suppress(RegistryError):
                place = urljoin(answer.url, answer.headers.get("location", ""))
                self._calls.ask("DELETE", place, (push_scope(repository),))
        return answer.status == 201

    def upload(self, transfer: Transfer) -> bool:
        """Send a blob; False if it was there already."""
        return Upload(self._calls, self._patience, transfer, self._piece).send()

    def download(self, transfer: Transfer) -> None:
        """Fetch a blob into a file, of which a part may be there; what is then there has its digest."""
        Download(self._calls, self._patience, transfer).fetch()

    def _manifest(self, method: str, reference: Reference) -> Answer:
        path = f"/v2/{reference.repository}/manifests/{reference.pointer}"
        return self._calls.ask(method, path, (pull_scope(reference.repository),), _ACCEPT)

    def _tags_of(self, answer: Answer) -> list[str]:
        import json

        try:
            return [str(tag) for tag in json.loads(answer.body)["tags"] or ()]
        except (ValueError, KeyError, TypeError) as error:
            raise unintelligible(self.host, "its list of tags cannot be read") from error


def next_page(answer: Answer) -> str:
    """Return the address of what a ``Link`` header says comes next."""
    target, _, relation = answer.headers.get("link", "").partition(">")
    return urljoin(answer.url, target.strip().lstrip("<")) if 'rel="next"' in relation else ""
