"""The script that a container starts by path: ``main.py VERB ...``. Owns verbs and the path's first entry.

It has to say something sensible under any Python whatever, so it keeps to what all of them read.
"""

# ruff: noqa: PTH100, PTH118, PTH120, UP031, UP036

import os
import sys

ENVIRONMENT_PHASE = 65

if sys.version_info < (3, 9):
    sys.stderr.write(
        "dispatch: the image's Python is %d.%d, but a step needs 3.9 or newer\n" % tuple(sys.version_info[:2])
    )
    sys.exit(ENVIRONMENT_PHASE)

USAGE = "usage: main.py run JOB | describe REQUEST ANSWER | bytecode DIRECTORY | zygote\n"


def main(arguments):
    # type: (list[str]) -> int
    """Carry out the verb; ``run`` and ``describe`` end the process themselves."""
    here = os.path.dirname(os.path.abspath(__file__))
    # This script's folder must not stay on the path: a user's own main.py is imported as "main". And where
    # the image sets PYTHONSAFEPATH it never was on it.
    if sys.path and sys.path[0] == here:
        del sys.path[0]
    sys.path.insert(0, os.path.join(here, "lib"))
    verb, operands = arguments[0] if arguments else "", arguments[1:]
    if verb == "run" and len(operands) == 1:
        from dispatch.runtime import run

        return run.main(operands[0])
    if verb == "describe" and len(operands) == 2:
        from dispatch.runtime import describe

        return describe.main(*operands)
    if verb == "bytecode" and len(operands) == 1:
        from dispatch.runtime import bytecode

        return bytecode.main(*operands)
    if verb == "zygote" and not operands:
        from dispatch.runtime import zygote

        return zygote.main(os.path.abspath(__file__))
    sys.stderr.write(USAGE)
    return ENVIRONMENT_PHASE


# Processes that a step starts by multiprocessing's "spawn" import this file again: nothing may happen then.
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
