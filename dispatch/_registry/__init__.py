"""The only door to image registries: nobody else speaks HTTP to one.

No daemon takes part: what an engine needs minutes and a login of its own for, is asked here with the user's.
urllib3, which takes a while to import, is loaded with the first request. Refuses to know engines, layers and
how images are made.
"""

from dispatch._registry.blobs import Transfer
from dispatch._registry.credentials import Login, Logins, docker_logins
from dispatch._registry.door import RegistryDoor
from dispatch._registry.manifest import Descriptor, Index, Manifest, Variant
from dispatch._registry.patience import Patience
from dispatch._registry.problems import (
    RegistryAbsentError,
    RegistryBusyError,
    RegistryDamagedError,
    RegistryDeniedError,
    RegistryError,
    RegistryFullError,
    RegistryNotFoundError,
    RegistryUnreachableError,
    RegistryUntrustedError,
)
from dispatch._registry.reference import Reference, parse_prefix, parse_reference
from dispatch._registry.way import Way, way_to

__all__ = [
    "Descriptor",
    "Index",
    "Login",
    "Logins",
    "Manifest",
    "Patience",
    "Reference",
    "RegistryAbsentError",
    "RegistryBusyError",
    "RegistryDamagedError",
    "RegistryDeniedError",
    "RegistryDoor",
    "RegistryError",
    "RegistryFullError",
    "RegistryNotFoundError",
    "RegistryUnreachableError",
    "RegistryUntrustedError",
    "Transfer",
    "Variant",
    "Way",
    "docker_logins",
    "parse_prefix",
    "parse_reference",
    "way_to",
]
