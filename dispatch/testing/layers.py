"""Container images of layers that are nothing but bytes: to be moved, not to be run.

Owns the archive in the format of ``docker save``. Refuses to load it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence


def layered_archive(reference: str, files: Sequence[bytes], architecture: str = "amd64") -> bytes:
    """Return an image archive with one layer for each file."""
    layers = [_tar({f"file-{place}": content}) for place, content in enumerate(files)]
    diffs = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diffs},
    }
    names = [f"{place}.tar" for place in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": names}]
    return _tar(
        {
            "config.json": json.dumps(config).encode(),
            **dict(zip(names, layers, strict=True)),
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
