"""The program of the process that evaluates Jsonnet: one question on stdin, one answer on stdout.

Run by path, by ``settings.jsonnet`` alone; its argument is the directory of the library. It loads nothing
else of ours, so that it starts as fast as Python does.
"""

from __future__ import annotations

import json
import signal
import sys


def main(library: str) -> None:
    """Read what ``settings.jsonnet`` asks; write ``{"result": JSON as text}`` or ``{"error": …}``."""
    # An evaluation would let Ctrl-C wait for its end.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.path.append(library)
    import rjsonnet  # type: ignore[import-untyped, unused-ignore]

    asked = json.load(sys.stdin.buffer)
    try:
        result = rjsonnet.evaluate_snippet(
            asked["name"],
            asked["text"],
            asked["beside"],
            ext_vars=asked["variables"],
            preserve_order=True,
        )
        answer = {"result": result}
    except Exception as error:
        answer = {"error": str(error)}
    sys.stdout.buffer.write(json.dumps(answer).encode())


if __name__ == "__main__":
    main(sys.argv[1])
