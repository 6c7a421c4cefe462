"""Datasets: made, written, committed, listed, read, removed.

Files are read with their digest checked. What beaker-py leaves out when it uploads a directory (empty files,
links, modes) is the business of whoever packs.
"""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from beaker import beaker_pb2 as pb2
from beaker import exceptions as theirs

from dispatch._beaker.account import Account
from dispatch._beaker.archive import PIECE, blocks_of
from dispatch._beaker.model import CreatedDataset, Dataset, DatasetFile
from dispatch._beaker.problems import BeakerConflictError, BeakerDamagedError, BeakerNotFoundError
from dispatch._beaker.sending import Sender, opened
from dispatch._beaker.values import dataset_of, file_of, made_id, storage_of

_LOOKS = 5
# Larger blocks would each be given new memory by the system.
READ_SIZE = 1 << 17


class Datasets:
    """The datasets of one workspace, as one account sees them. May be used from several threads."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._client = account.client
        self._call = account.call

    def create(self, name: str, description: str = "") -> CreatedDataset:
        """Make an empty dataset. BeakerConflictError where the name is taken.

        Whether a call got through whose answer was lost is told by the description: make it one of a kind.
        """
        tries = 0

        def post() -> Any:
            nonlocal tries
            tries += 1
            return self._client.dataset.http_request(
                "datasets",
                method="POST",
                query={"name": name},
                data={"workspace": self._account.workspace_id, "description": description, "budget": None},
                exceptions_for_status={409: theirs.BeakerDatasetConflict(name)},
            ).json()

        try:
            made = self._call(f"dataset {name}", post)
        except BeakerConflictError:
            found = self.find(name) if tries > 1 else None
            if found is None or found.committed or found.description != description:
                raise
            return self.open(found)
        account = self._account
        dataset = Dataset(
            made_id(f"dataset {name}", made),
            name,
            account.user_id,
            account.workspace_id,
            description,
            account.wall(),
            False,
        )
        return CreatedDataset(dataset, storage_of(f"dataset {name}", made))

    def open(self, dataset: Dataset) -> CreatedDataset:
        """Get ready to write to a dataset that was made before and is not committed."""
        return CreatedDataset(dataset, opened(self._account, dataset))

    def write(self, created: CreatedDataset, path: str, source: bytes | Path) -> None:
        """Write a file of a dataset. BeakerConflictError once it is committed, NotFound once it is gone."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size

        def blocks() -> Iterator[bytes]:
            if isinstance(source, bytes):
                return iter((source,))
            return blocks_of(source, size, PIECE)

        Sender(self._account, created).send(path, size, blocks)

    def commit(self, dataset_id: str) -> None:
        """Make a dataset final; again is the same. BeakerNotFoundError once it is deleted."""
        self._call(
            f"dataset {dataset_id}",
            lambda: self._client.dataset.http_request(
                f"datasets/{dataset_id}",
                method="PATCH",
                data={"commit": True},
                exceptions_for_status={404: theirs.BeakerDatasetNotFound(dataset_id)},
            ),
        )

    def get(self, dataset_id: str) -> Dataset:
        """Return a dataset by id. BeakerNotFoundError."""
        raw = self._call(f"dataset {dataset_id}", lambda: self._client.dataset.get(dataset_id))
        return dataset_of(raw)

    def find(self, name: str) -> Dataset | None:
        """Return our own dataset of a name (or ``author/name``), None where there is none."""
        whole = name if "/" in name else f"{self._account.user_name}/{name}"
        try:
            return dataset_of(self._call(f"dataset {name}", lambda: self._client.dataset.get(whole)))
        except BeakerNotFoundError:
            return None

    def search(
        self,
        text: str = "",
        *,
        committed: bool | None = None,
        own: bool = False,
        results: bool | None = False,
        limit: int | None = None,
        newest: bool = False,
    ) -> list[Dataset]:
        """Return the workspace's datasets whose name or description contains ``text``, oldest first.

        50 come with one request. ``own`` leaves out other authors', ``results`` (False: only others, None:
        all) those that jobs made; ``newest`` is for the youngest first.
        """
        account = self._account
        options = pb2.ListDatasetsRequest.Opts
        kinds = {True: options.DATASET_TYPE_IS_RESULT, False: options.DATASET_TYPE_IS_NOT_RESULT}
        states = {
            True: options.STATUS_COMMITTED,
            False: options.STATUS_UNCOMMITTED,
        }
        order = pb2.SortOrder.SORT_ORDER_DESCENDING if newest else pb2.SortOrder.SORT_ORDER_ASCENDING
        found: list[Dataset] = []
        request = pb2.ListDatasetsRequest(
            options=options(
                sort_clause=options.SortClause(sort_order=order, created={}),
                dataset_type=kinds.get(results) if results is not None else None,
                committed_status=states.get(committed) if committed is not None else None,
                name_or_description_substring=text or None,
                organization_id=account.organization_id,
                author_id=account.user_id if own else None,
                workspace_id=account.workspace_id,
                page_size=50 if limit is None else min(50, limit),
            )
        )
        while True:
            page = self._rpc(f"datasets {text}", "ListDatasets", request)
            found += [dataset_of(each) for each in page.datasets]
            if not page.next_page_token or (limit is not None and len(found) >= limit):
                return found if limit is None else found[:limit]
            request.next_page_token = page.next_page_token

    def describe(self, dataset_id: str, description: str) -> None:
        """Set a dataset's description, also of a committed one. BeakerNotFoundError once it is deleted."""
        request = pb2.UpdateDatasetRequest(dataset_id=dataset_id, description=description)
        self._rpc(f"dataset {dataset_id}", "UpdateDataset", request)

    def delete(self, dataset_ids: Sequence[str]) -> None:
        """Remove datasets; one that is gone is no error."""
        for dataset_id in dataset_ids:
            try:
                request = pb2.DeleteDatasetsRequest(dataset_ids=[dataset_id])
                self._rpc(f"dataset {dataset_id}", "DeleteDatasets", request)
            except BeakerNotFoundError:
                continue

    def files(self, dataset_id: str, prefix: str = "") -> list[DatasetFile]:
        """Return the files of a dataset below a prefix, with sizes and digests."""
        options = pb2.ListDatasetFilesRequest.Opts(dataset_id=dataset_id, prefix=prefix or None)
        request = pb2.ListDatasetFilesRequest(options=options)
        found: list[DatasetFile] = []
        while True:
            page = self._rpc(f"dataset {dataset_id}", "ListDatasetFiles", request)
            found += [file_of(each) for each in page.dataset_files]
            if not page.next_page_token:
                return found
            request.next_page_token = page.next_page_token

    def agreed_files(self, dataset_id: str, prefix: str = "") -> list[DatasetFile]:
        """Return the same as soon as two answers agree, for those who keep it: one alone might be wrong.

        BeakerDamagedError where they differ again and again.
        """
        found = self.files(dataset_id, prefix)
        for _ in range(_LOOKS):
            before, found = found, self.files(dataset_id, prefix)
            if before == found:
                return found
        raise BeakerDamagedError(
            f"dataset {dataset_id}: Beaker tells of other files each time", "repeat the command"
        )

    def read(self, dataset_id: str, path: str) -> bytes:
        """Return a small file's bytes. BeakerNotFoundError. Its digest is the caller's to check."""
        what = f"dataset {dataset_id}: {path}"
        return bytes(self._call(what, lambda: self._response(dataset_id, path, 0).content))

    def stream(self, dataset_id: str, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield a file's bytes from ``offset``. It may break off with whatever requests raises.

        Resuming and the digest are the caller's.
        """
        response = self._call(
            f"dataset {dataset_id}: {path}", lambda: self._response(dataset_id, path, offset, stream=True)
        )
        # Whoever does not know ranges sends the file from its beginning.
        skip = offset if response.status_code == 200 else 0
        with response:
            for block in response.iter_content(READ_SIZE):
                if skip < len(block):
                    yield block[skip:]
                skip = max(0, skip - len(block))

    def _response(self, dataset_id: str, path: str, offset: int, *, stream: bool = False) -> Any:
        service = self._client.dataset
        return service.http_request(
            f"datasets/{dataset_id}/files/{service._url_quote(path)}",
            method="GET",
            stream=stream,
            headers={"Range": f"bytes={offset}-"} if offset else {},
            exceptions_for_status={404: FileNotFoundError(path)},
        )

    def _rpc(self, what: str, name: str, request: Any) -> Any:
        return self._account.rpc(what, name, request)
