"""The source repository: what exactly the user's working tree holds, and a clean copy of it for the steps.

The only package that speaks to git. It refuses to write into the user's repository, and to run code that the
repository brings along (hooks, filters, file system monitors).
"""

from dispatch.source.git import Git
from dispatch.source.provenance import Provenance, provenance
from dispatch.source.pushed import TOKEN_USER, ClosedRemoteError, Login
from dispatch.source.ref import Part, SourceRef
from dispatch.source.remotes import Remote
from dispatch.source.repository import Repository

__all__ = [
    "TOKEN_USER",
    "ClosedRemoteError",
    "Git",
    "Login",
    "Part",
    "Provenance",
    "Remote",
    "Repository",
    "SourceRef",
    "provenance",
]
