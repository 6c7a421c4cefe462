"""gRPC's core is told to keep its handshakes to itself: it would write each failed one to our error output.

Whoever imports the vendors' libraries imports this first. gRPC listens once, when it is loaded, and only to
an environment variable, which no child of ours shall see. Who sets the variable himself is heard.
"""

from __future__ import annotations

import os

VARIABLE = "GRPC_VERBOSITY"

if VARIABLE not in os.environ:
    os.putenv(VARIABLE, "NONE")
    try:
        import grpc  # noqa: F401
    finally:
        os.unsetenv(VARIABLE)
