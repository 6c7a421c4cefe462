"""Where a team shares its images, as the settings say it: ``registry: ghcr.io/team``.

Owns spelling only: what an address may look like. Logins are never in the settings: they are those of
Docker's own configuration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import ConfigurationError
from dispatch.settings.section import Section
from dispatch.settings.values import Base

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = (
    rf"(?:{_LABEL}(?:\.{_LABEL})+|{_LABEL}(?:\.{_LABEL})*(?=:)|localhost|\[[0-9A-Fa-f:]+\])(?::[0-9]{{1,5}})?"
)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
ADDRESS = re.compile(rf"{_HOST}(?:/{_PART})*")
_EXAMPLE = "HOST[:PORT][/NAME…], the names in lower case, such as ghcr.io/team"
_KEYS = ("address", "insecure", "authority")


@dataclass(frozen=True)
class RegistrySetting:
    """A registry, and the place in it below which images are: ``ADDRESS/dispatch:<tag>``.

    ``insecure`` allows it plain HTTP and a certificate that nobody vouches for; ``authority`` (absolute) is a
    file of certificates to trust beside the system's.
    """

    address: str
    insecure: bool = False
    authority: Path | None = None

    @property
    def repository(self) -> str:
        """The repository that holds the images."""
        return f"{self.address}/dispatch"


def parse_registry(text: str) -> RegistrySetting:
    """Read an address that was given by hand. Raises ConfigurationError."""
    if not ADDRESS.fullmatch(text):
        raise ConfigurationError(f"registry {text!r}: this is no address of a registry", f"write {_EXAMPLE}")
    return RegistrySetting(text)


def read_registry(section: Section, key: str, base: Base) -> RegistrySetting | None:
    """Read an address, or a mapping of ``address`` and how it is trusted."""
    value = section.content.get(key)
    if value is None:
        return None
    if isinstance(value, str):
        return RegistrySetting(_address(section, key))
    mapping = section.section(key)
    assert mapping is not None
    mapping.only(_KEYS)
    authority = mapping.text("authority")
    return RegistrySetting(
        _address(mapping, "address"),
        mapping.flag("insecure") or False,
        None if authority is None else base.resolve(authority),
    )


def _address(section: Section, key: str) -> str:
    text = section.text(key)
    if text is None or not ADDRESS.fullmatch(text):
        raise section.wrong(key, _EXAMPLE, section.content.get(key))
    return text
