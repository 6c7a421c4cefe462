"""Types of GPUs as people write them, held against Beaker's words for them.

Owns which spellings mean the same: ``a100`` is every A100, ``A100-80GB`` and ``NVIDIA A100-SXM4-80GB`` (as
nvidia-smi says) are the one that Beaker calls ``NVIDIA_A100_80GB``. ``l4`` is no L40.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[a-z0-9]+")
_MEMORY = re.compile(r"[0-9]{1,4}gi?b")
# What names a maker, a family or a connector: Beaker's words tell none of it.
_SAID_ELSEWHERE = re.compile(r"nvidia|gpu|type|tesla|quadro|geforce|sxm[0-9]?|pcie|nvl|hbm[0-9]?e?")


def is_type(kind: str, wanted: str) -> bool:
    """Whether a GPU that Beaker calls ``kind`` is one of those that ``wanted`` means."""
    has, asked = _words(kind), _words(wanted)
    if not asked:
        # Nothing is left of a word such as "nvidia", which any GPU of that maker is.
        return bool(_WORD.search(kind.casefold())) and wanted.casefold() in kind.casefold()
    if not any(_MEMORY.fullmatch(word) for word in has):
        asked = [word for word in asked if not _MEMORY.fullmatch(word)] or asked
    if set(asked) <= set(has):
        return True
    # Written together ("rtx8000", "a10080gb") what Beaker writes apart.
    joined = "".join(asked)
    runs = {"".join(has[start:end]) for start in range(len(has)) for end in range(start + 1, len(has) + 1)}
    return joined in runs


def _words(text: str) -> list[str]:
    words = _WORD.findall(text.casefold())
    return [word for word in words if not _SAID_ELSEWHERE.fullmatch(word)]
