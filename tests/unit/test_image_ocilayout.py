"""A directory of images in the place of an engine's image store."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import multiprocessing
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import ImageRecord
from dispatch.errors import ImageError
from dispatch.image.content import archive
from dispatch.image.ocilayout import OciLayout
from dispatch.reporting import Reporter
from dispatch.testing.reporting import RecordingReporter

FIRST, SECOND = b"first layer" * 100, b"second layer" * 1000


def digest_of(content: bytes) -> str:
    """The digest of bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def config_of(layers: Sequence[bytes], **labels: str) -> bytes:
    """The configuration of an image."""
    document = {
        "architecture": "arm64",
        "os": "linux",
        "config": {"Labels": labels, "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
    }
    return json.dumps(document).encode()


def saved(config: bytes, layers: Sequence[bytes | str | None], more: dict[str, Any] | None = None) -> bytes:
    """An archive; a layer that is None is left out, one that is a text is a link to another."""
    buffer = io.BytesIO()
    names = [f"layer-{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": names, **(more or {})}]
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in (
            *zip(names, layers, strict=True),
            ("config.json", config),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            elif content is not None:
                entry.size = len(content)
            if content is not None:
                tar.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def load(layout: OciLayout, config: bytes, layers: Sequence[bytes | str | None]) -> str:
    """Load an image and return its ID."""
    content = saved(config, layers)
    layout.load(content[place : place + 1000] for place in range(0, len(content), 1000))
    return digest_of(config)


def files(root: Path) -> dict[str, bytes]:
    """What a directory of images holds."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_an_image_is_there_as_it_was_loaded(tmp_path: Path) -> None:
    """By its ID and, once it has them, by its names and labels."""
    layout = OciLayout(tmp_path / "oci")
    config = config_of([FIRST, SECOND], **{"dispatch.digest": "abc"})
    image = load(layout, config, [FIRST, SECOND])
    record = layout.inspect_image(image)
    assert record == ImageRecord(
        id=image,
        labels={"dispatch.digest": "abc"},
        diff_ids=(digest_of(FIRST), digest_of(SECOND)),
        config=json.loads(config)["config"],
        tags=(),
        architecture="arm64",
        os="linux",
    )
    assert layout.inspect_image("dispatch:a") is None
    layout.tag(image, "dispatch", "a")
    layout.tag(image, "dispatch", "b")
    layout.tag(image, "dispatch", "a")
    for name in ("dispatch:a", "dispatch:b", image):
        found = layout.inspect_image(name)
        assert found is not None
        assert found.tags == ("dispatch:a", "dispatch:b")
    assert layout.find_image("dispatch.digest", "abc") == layout.inspect_image(image)
    assert layout.find_image("dispatch.digest", "other") is None


def test_an_empty_directory_holds_nothing(tmp_path: Path) -> None:
    """Also one that is not there, which asking does not make."""
    layout = OciLayout(tmp_path / "none")
    assert layout.inspect_image("a:b") is None
    assert layout.find_image("a", "b") is None
    assert layout.find(["sha256:" + "0" * 64]) == {}
    assert not (tmp_path / "none").exists()


def test_a_name_moves_and_no_image_is_lost(tmp_path: Path) -> None:
    """As with an engine: what loses its last name stays, without one."""
    layout = OciLayout(tmp_path)
    one, two = load(layout, config_of([FIRST]), [FIRST]), load(layout, config_of([SECOND]), [SECOND])
    layout.tag(one, "dispatch", "a")
    layout.tag(two, "dispatch", "a")
    first, second = layout.inspect_image(one), layout.inspect_image(two)
    assert first is not None
    assert second is not None
    assert (first.tags, second.tags) == ((), ("dispatch:a",))
    with pytest.raises(ImageError, match="has no such image"):
        layout.tag("sha256:" + "0" * 64, "dispatch", "a")


def test_lower_layers_may_be_left_out(tmp_path: Path) -> None:
    """Those that are here; others are missed by name, and then nothing is taken in."""
    layout = OciLayout(tmp_path)
    load(layout, config_of([FIRST]), [FIRST])
    image = load(layout, config_of([FIRST, SECOND]), [None, SECOND])
    record = layout.inspect_image(image)
    assert record is not None
    content = layout.content(record)
    assert [layer.diff_id for layer in content.layers] == list(record.diff_ids)
    before = files(tmp_path)
    third = b"third"
    with pytest.raises(ImageError, match=f"has its layer {digest_of(third)[:19]}"):
        load(layout, config_of([third, b"fourth"]), [None, b"fourth"])
    assert files(tmp_path) == before


@pytest.mark.parametrize("form", ["gzip", "link"])
def test_archives_of_engines_are_read(tmp_path: Path, form: str) -> None:
    """With compressed layers, and with links from one layer to another that is the same."""
    forms: dict[str, list[bytes | str | None]] = {
        "gzip": [gzip.compress(FIRST), SECOND],
        "link": [FIRST, "../layer-0/layer.tar"],
    }
    plain = {"gzip": [FIRST, SECOND], "link": [FIRST, FIRST]}[form]
    layout = OciLayout(tmp_path)
    record = layout.inspect_image(load(layout, config_of(plain), forms[form]))
    assert record is not None
    (blobs,) = {tmp_path / "blobs" / "sha256"}
    assert [(blobs / each[7:]).read_bytes() for each in record.diff_ids] == plain


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: good[:1000],
        lambda good: good[:700],
        lambda good: good.replace(b"first", b"fiRst", 1),
        lambda _: b"",
        lambda _: b"rubbish" * 1000,
        lambda good: good.replace(b"manifest.json", b"manifesT.json"),
        lambda good: good.replace(b'"Config"', b'"config"'),
        lambda good: good.replace(b'"diff_ids"', b'"diff-ids"'),
        lambda _: saved(config_of([FIRST, SECOND]), [FIRST]),
        lambda _: saved(b"[]", [FIRST]),
    ],
)
def test_a_damaged_archive_leaves_nothing_behind(tmp_path: Path, damage: Any) -> None:
    """Cut, changed, or something else altogether: it is refused, and the directory is as it was."""
    layout = OciLayout(tmp_path)
    load(layout, config_of([SECOND]), [SECOND])
    before = files(tmp_path)
    with pytest.raises(ImageError):
        layout.load([damage(saved(config_of([FIRST]), [FIRST])) or b"x"])
    assert files(tmp_path) == before


def test_the_same_images_make_the_same_directory(tmp_path: Path) -> None:
    """Byte for byte, in whatever order they came."""
    images = [(config_of([FIRST]), [FIRST], "a"), (config_of([FIRST, SECOND]), [FIRST, SECOND], "b")]
    for name, order in (("one", images), ("two", images[::-1])):
        layout = OciLayout(tmp_path / name)
        for config, layers, tag in order:
            layout.tag(load(layout, config, layers), "dispatch", tag)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_the_directory_is_in_the_oci_layout(tmp_path: Path) -> None:
    """Every blob is named by its digest, the index leads to all of them, and names are annotations."""
    layout = OciLayout(tmp_path)
    layout.tag(load(layout, config_of([FIRST, SECOND]), [FIRST, SECOND]), "dispatch", "a")
    held = files(tmp_path)
    assert json.loads(held.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(held.pop("index.json"))["manifests"]
    assert entry["annotations"] == {
        "org.opencontainers.image.ref.name": "dispatch:a",
        "io.containerd.image.name": "docker.io/library/dispatch:a",
    }
    assert entry["platform"] == {"os": "linux", "architecture": "arm64"}
    assert all(path == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}" for path, data in held.items())
    manifest = json.loads(held[f"blobs/sha256/{entry['digest'][7:]}"])
    parts = [entry, manifest["config"], *manifest["layers"]]
    assert {(f"blobs/sha256/{part['digest'][7:]}", part["size"]) for part in parts} == {
        (path, len(data)) for path, data in held.items()
    }


def test_another_directory_is_no_directory_of_images(tmp_path: Path) -> None:
    """One whose index is something else, and a file, are refused by name."""
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(ImageError, match="not a directory of images"):
        OciLayout(tmp_path).inspect_image("a:b")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ImageError, match="not a directory of images"):
        OciLayout(file).inspect_image("a:b")


def test_a_damaged_blob_is_noticed(tmp_path: Path) -> None:
    """A configuration when it is read, a layer when it is sent on."""
    layout = OciLayout(tmp_path)
    image = load(layout, config_of([FIRST]), [FIRST])
    record = layout.inspect_image(image)
    assert record is not None
    layer = tmp_path / "blobs" / "sha256" / record.diff_ids[0][7:]
    layer.write_bytes(FIRST.replace(b"f", b"F"))
    with pytest.raises(ImageError, match="is not what its digest says"):
        list(archive(layout.content(record)))
    (tmp_path / "blobs" / "sha256" / image[7:]).write_bytes(b"{}")
    with pytest.raises(ImageError, match="is damaged or missing"):
        layout.inspect_image(image)


def test_an_image_goes_from_one_directory_to_another(tmp_path: Path) -> None:
    """As the archive that an engine loads, whole or without what is there."""
    one, two = OciLayout(tmp_path / "one"), OciLayout(tmp_path / "two")
    record = one.inspect_image(load(one, config_of([FIRST, SECOND]), [FIRST, SECOND]))
    assert record is not None
    with pytest.raises(ImageError, match="has its layer"):
        two.load(archive(one.content(record), held=1))
    two.load(archive(one.content(record)))
    two.load(archive(one.content(record), held=2))
    assert two.inspect_image(record.id) == record


def test_images_of_registries_come_by_a_fetch(tmp_path: Path) -> None:
    """They are named as they were asked for; without a fetch there are none."""
    config = config_of([FIRST])

    def fetch(reference: str, layout: OciLayout, report: Reporter) -> ImageRecord:
        report(reference)
        record = layout.inspect_image(load(layout, config, [FIRST]))
        assert record is not None
        return record

    report = RecordingReporter()
    layout = OciLayout(tmp_path, fetch)
    assert layout.pull("host:5000/base:1", report).tags == ("host:5000/base:1",)
    assert layout.pull(f"host:5000/base@{digest_of(config)}", report).id == digest_of(config)
    assert len(report.lines) == 2
    with pytest.raises(ImageError, match="pulls from no registry"):
        OciLayout(tmp_path).pull("host:5000/base:1", report)


def _add(root: Path, number: int) -> None:
    layout = OciLayout(root)
    layer = b"layer %d" % number
    layout.tag(load(layout, config_of([FIRST, layer]), [FIRST, layer]), "dispatch", str(number))


def test_processes_share_a_directory(tmp_path: Path) -> None:
    """What several put into it at the same time is all there."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add, args=(tmp_path, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    layout = OciLayout(tmp_path)
    assert all(layout.inspect_image(f"dispatch:{number}") for number in range(4))
