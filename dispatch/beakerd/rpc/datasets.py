"""Datasets, their files, and links to these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from beaker import beaker_pb2 as pb2

from dispatch.beakerd import datasets
from dispatch.beakerd.access import Principal, Purpose, require
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.objects import checked
from dispatch.beakerd.problems import invalid
from dispatch.beakerd.rpc.paging import SORT_ASCENDING, keyset, next_token, open_page
from dispatch.beakerd.rpc.server import Method
from dispatch.beakerd.store import datasets as store

FILES_A_PAGE = 1000
_Condition = tuple[str, Sequence[Any]]


def resolve_dataset_name(backend: Backend, who: Principal, request: Any) -> Any:
    """A dataset's id by its author's name and its own."""
    with backend.database.read() as tx:
        found = store.resolve(tx, who, request.author_name, request.dataset_name)
    return pb2.ResolveDatasetNameResponse(dataset_id=found)


def get_dataset(backend: Backend, who: Principal, request: Any) -> Any:
    """A dataset by its id, and how its files are reached."""
    with backend.database.read() as tx:
        row = store.find(tx, who, request.dataset_id)
    return pb2.GetDatasetResponse(dataset=_dataset(row), datasetStorage=_storage(backend, who, row))


def list_datasets(backend: Backend, who: Principal, request: Any) -> Any:
    """Datasets that the caller may see, page by page."""
    options, place = open_page(request, backend.config.limits.page)
    clause = options.sort_clause
    by_name = clause.WhichOneof("sort_by") == "name"
    # Without a word of the caller: names from the first, times from the latest.
    descending = not by_name if clause.sort_order == 0 else clause.sort_order != SORT_ASCENDING
    after, order, values = keyset("d.name" if by_name else "d.created", descending, place)
    with backend.database.read() as tx:
        if options.HasField("workspace_id"):
            require(tx, who, options.workspace_id, f"workspace {options.workspace_id!r}")
        rows = store.select(tx, [*_visible(who), *_wanted(options), (after, values)], order)
    page = rows[: place.size]
    response = pb2.ListDatasetsResponse(datasets=[_dataset(row) for row in page])
    if len(rows) > len(page):
        last = page[-1]
        response.next_page_token = next_token(options, last["name" if by_name else "created"], last["id"])
    return response


def update_dataset(backend: Backend, who: Principal, request: Any) -> Any:
    """Change a dataset's name and description, and commit it."""
    datasets.change(
        backend,
        who,
        request.dataset_id,
        request.name if request.HasField("name") else None,
        request.description if request.HasField("description") else None,
    )
    if request.HasField("committed"):
        datasets.commit(backend, who, request.dataset_id)
    with backend.database.read() as tx:
        row = store.find(tx, who, request.dataset_id)
    return pb2.UpdateDatasetResponse(dataset=_dataset(row), datasetStorage=_storage(backend, who, row))


def delete_datasets(backend: Backend, who: Principal, request: Any) -> Any:
    """Delete datasets, all or none."""
    datasets.delete(backend, who, list(request.dataset_ids))
    return pb2.DeleteDatasetsResponse()


def list_dataset_files(backend: Backend, who: Principal, request: Any) -> Any:
    """Files by path. A prefix is one of the whole path: that of a folder gives what is in it."""
    options, place = open_page(request, backend.config.limits.page)
    place = replace(place, size=FILES_A_PAGE)
    after = "" if place.after is None else place.after[1]
    with backend.database.read() as tx:
        store.find(tx, who, options.dataset_id)
        rows = store.files(tx, options.dataset_id, options.prefix, after, place.size + 1)
        size, count = store.totals(tx, options.dataset_id, options.prefix)
    page = rows[: place.size]
    response = pb2.ListDatasetFilesResponse(
        dataset_files=[_file(row) for row in page], total_size=size, file_count=count
    )
    if len(rows) > len(page):
        response.next_page_token = next_token(options, "", page[-1]["path"])
    return response


def get_dataset_file_link(backend: Backend, who: Principal, request: Any) -> Any:
    """A link to a file that needs no token, for a while (``limits.file_link``)."""
    dataset, path = request.dataset_id, checked(request.file_path)
    life = backend.config.limits.file_link
    with backend.database.write() as tx:
        store.find(tx, who, dataset)
        store.file(tx, dataset, path)
        bound = Principal(
            who.user_id, Purpose.STORAGE, who.workspace_id, job_id=who.job_id, subject=f"{dataset}/{path}"
        )
        tx.execute(
            "DELETE FROM tokens WHERE subject = ? AND expires <= ?", (bound.subject, backend.clock.now())
        )
        token = backend.access.issue(tx, bound, life)
    return pb2.GetDatasetFileLinkResponse(download_url=f"{_base(backend, who)}/links/{token}/{quote(path)}")


def _visible(who: Principal) -> Iterator[_Condition]:
    yield (
        "d.workspace_id IN (SELECT w.id FROM workspaces w JOIN members m"
        " ON m.organization_id = w.organization_id WHERE m.user_id = ?)",
        (who.user_id,),
    )
    if who.workspace_id is not None:
        yield "d.workspace_id = ?", (who.workspace_id,)


def _wanted(options: Any) -> Iterator[_Condition]:
    """The conditions of a list's options."""
    if options.organization_id:
        yield (
            "d.workspace_id IN (SELECT id FROM workspaces WHERE organization_id = ?)",
            (options.organization_id,),
        )
    for name in ("workspace_id", "author_id", "budget_id"):
        if options.HasField(name):
            yield f"d.{name} = ?", (getattr(options, name),)
    if options.HasField("name_or_description_substring"):
        text = options.name_or_description_substring
        pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        yield "d.name LIKE ? ESCAPE '\\' OR d.description LIKE ? ESCAPE '\\'", (pattern, pattern)
    for name, sign in (("created_before", "<"), ("created_after", ">")):
        if options.HasField(name):
            yield f"d.created {sign} ?", (_nanoseconds(name, getattr(options, name)),)
    if options.HasField("dataset_type"):
        yield from _either(options.dataset_type, "d.source_job_id IS NULL", "d.source_job_id IS NOT NULL")
    if options.HasField("committed_status"):
        yield from _either(options.committed_status, "d.committed IS NOT NULL", "d.committed IS NULL")


def _either(choice: int, first: str, second: str) -> Iterator[_Condition]:
    if choice:
        yield first if choice == 1 else second, ()


def _nanoseconds(name: str, stamp: Any) -> int:
    value = stamp.seconds * 10**9 + stamp.nanos
    if not -(2**63) <= value < 2**63:
        raise invalid(f"{name}: is no time")
    return int(value)


def _base(backend: Backend, who: Principal) -> str:
    """Where the caller reaches storage; a job does so by the bridge."""
    scheme = "https" if backend.config.rest_tls else "http"
    bridge, (host, _, port) = backend.addresses.bridge, backend.addresses.rest.rpartition(":")
    return f"{scheme}://{host if who.job_id is None or bridge is None else bridge}:{port}"


def _dataset(row: Any) -> Any:
    dataset = pb2.Dataset(
        id=row["id"],
        name=row["name"],
        full_name=f"{row['author']}/{row['name']}" if row["name"] else row["id"],
        author_id=row["author_id"],
        workspace_id=row["workspace_id"],
        description=row["description"],
        source_execution=row["source_job_id"],
        budget_id=row["budget_id"],
    )
    dataset.created.FromNanoseconds(row["created"])
    if row["committed"] is not None:
        dataset.committed.FromNanoseconds(row["committed"])
    return dataset


def _storage(backend: Backend, who: Principal, row: Any) -> Any:
    """Storage, with a token only where there is something to write."""
    base = f"{_base(backend, who)}/datasets/{row['id']}"
    if row["committed"] is not None:
        with backend.database.read() as tx:
            size, count = store.totals(tx, row["id"])
        return pb2.DatasetStorage(url=base, total_size=size, file_count=count)
    place = datasets.storage(backend, who, row["id"])
    storage = pb2.DatasetStorage(url=base, total_size=place.size, file_count=place.count, token=place.token)
    storage.token_expires.FromNanoseconds(place.expires)
    return storage


def _file(row: Any) -> Any:
    digest = pb2.DatasetFile.Digest(
        algorithm=pb2.DatasetFile.AlgorithmType.ALGORITHM_TYPE_SHA256, value=row["sha256"]
    )
    file = pb2.DatasetFile(path=row["path"], size=row["size"], digest=digest)
    file.updated.FromNanoseconds(row["updated"])
    return file


METHODS: dict[str, Method] = {
    "ResolveDatasetName": resolve_dataset_name,
    "GetDataset": get_dataset,
    "ListDatasets": list_datasets,
    "UpdateDataset": update_dataset,
    "DeleteDatasets": delete_datasets,
    "ListDatasetFiles": list_dataset_files,
    "GetDatasetFileLink": get_dataset_file_link,
}
