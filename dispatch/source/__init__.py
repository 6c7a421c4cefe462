"""The source repository: what exactly the user's working tree holds, and a clean copy of it for the steps.

The only package that speaks to git. It refuses to write into the user's repository, and to run code that the
repository brings along (hooks, filters, file system monitors).
"""

from dispatch.source.git import Git
from dispatch.source.provenance import Provenance, provenance
from dispatch.source.ref import Part, SourceRef
from dispatch.source.repository import Repository

__all__ = ["Git", "Part", "Provenance", "Repository", "SourceRef", "provenance"]
