"""A local Beaker of its own until standard input ends, with a finalized job of so many lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dispatch.beakerd.joblog import LogWriter
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_rows import BY_HAND, HandJobs


def main(root: Path, lines: int) -> None:
    """Say where it is, as JSON on one line."""
    beakers = Beakers(root)
    beakers.prepare()
    beaker = beakers.start(BY_HAND)
    jobs = HandJobs(beaker)
    job = jobs.queue()
    writer = LogWriter(beaker.layout.job_log(job))
    start = 1_700_000_000_000_000_005
    writer.add((start + 1000 * n, b"line %d of a log with some words in it\n" % n) for n in range(lines))
    writer.close(final=True)
    jobs.end(job)
    config = beaker.layout.users / "me" / "config.yml"
    print(json.dumps({"ca": str(beakers.authority), "config": str(config), "job": job}), flush=True)
    sys.stdin.read()
    beakers.close()


main(Path(sys.argv[1]), int(sys.argv[2]))
