"""Images over gRPC: found, listed, changed and deleted."""

from __future__ import annotations

from typing import Any

from beaker import beaker_pb2 as pb2

from dispatch.beakerd import repositories
from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.images import repository
from dispatch.beakerd.rpc.paging import SORT_ASCENDING, keyset, next_token, open_page
from dispatch.beakerd.rpc.server import Method
from dispatch.beakerd.store import images
from dispatch.beakerd.store.images import Image


def message(backend: Backend, image: Image) -> Any:
    """An image as the API's message."""
    ours = image.source == images.REGISTRY and image.committed is not None
    found = pb2.Image(
        id=image.id,
        name=image.name,
        full_name=image.full_name,
        workspace_id=image.workspace_id,
        author_id=image.author_id,
        docker_id=image.docker_id,
        docker_tag=f"{repository(backend, image.id)}:{repositories.TAG}" if ours else image.docker_tag,
        original_tag=image.original_tag,
        description=image.description,
        size=image.size,
        budget_id=image.budget_id,
    )
    found.created.FromNanoseconds(image.created)
    if image.committed is not None:
        found.committed.FromNanoseconds(image.committed)
    return found


def get_image(backend: Backend, who: Principal, request: Any) -> Any:
    """An image by id, or by the name of one of the caller's own."""
    with backend.database.read() as tx:
        image = images.find(tx, who, request.image_id)
    return pb2.GetImageResponse(image=message(backend, image))


def resolve_name(backend: Backend, who: Principal, request: Any) -> Any:
    """The id of a name."""
    with backend.database.read() as tx:
        image = images.resolve(tx, who, request.author_name, request.image_name)
    return pb2.ResolveImageNameResponse(image_id=image)


def list_images(backend: Backend, who: Principal, request: Any) -> Any:
    """A page of the images that the caller may see."""
    options, place = open_page(request, backend.config.limits.page)
    by_name = options.sort_clause.WhichOneof("sort_by") == "name"
    order = options.sort_clause.sort_order
    descending = order != SORT_ASCENDING if order else not by_name
    after, tail, values = keyset("i.name" if by_name else "i.created", descending, place)
    conditions, wanted = [after], list(values)
    for column, field in (("i.author_id", "author_id"), ("i.workspace_id", "workspace_id")):
        if options.HasField(field):
            conditions.append(f"{column} = ?")
            wanted.append(getattr(options, field))
    if options.HasField("budget_id"):
        conditions.append("i.budget_id = ?")
        wanted.append(options.budget_id)
    if options.organization_id:
        conditions.append("i.workspace_id IN (SELECT id FROM workspaces WHERE organization_id = ?)")
        wanted.append(options.organization_id)
    if options.HasField("image_name_or_description"):
        conditions.append("instr(lower(i.name || char(10) || i.description), lower(?))")
        wanted.append(options.image_name_or_description)
    with backend.database.read() as tx:
        found = images.select(tx, who, " AND ".join(conditions), wanted, tail)
    response = pb2.ListImagesResponse(images=[message(backend, image) for image in found[: place.size]])
    if len(found) > place.size:
        last = found[place.size - 1]
        response.next_page_token = next_token(options, last.name if by_name else last.created, last.id)
    return response


def update_image(backend: Backend, who: Principal, request: Any) -> Any:
    """Rename, describe or commit an image."""
    with backend.database.write() as tx:
        image = images.changeable(tx, who, request.image_id)
        if request.HasField("name"):
            images.rename(tx, image, request.name, backend.config.assume.names)
        if request.HasField("description"):
            images.describe(tx, image.id, request.description)
    if request.HasField("committed"):
        repositories.commit(backend, who, request.image_id)
    with backend.database.read() as tx:
        return pb2.UpdateImageResponse(image=message(backend, images.visible(tx, who, request.image_id)))


def delete_images(backend: Backend, who: Principal, request: Any) -> Any:
    """Remove images: their names are free again."""
    repositories.delete(backend, who, request.image_ids)
    return pb2.DeleteImagesResponse()


METHODS: dict[str, Method] = {
    "GetImage": get_image,
    "ResolveImageName": resolve_name,
    "ListImages": list_images,
    "UpdateImage": update_image,
    "DeleteImages": delete_images,
}
