"""beaker-py reading a job's log: how many lines came in order, and in how many seconds."""

from __future__ import annotations

import json
import sys
import time

from beaker import Beaker
from beaker import beaker_pb2 as pb2

with Beaker.from_env(check_for_upgrades=False) as client:
    began, whole, count = time.perf_counter(), True, 0
    for line in client.job.logs(pb2.Job(id=sys.argv[1])):
        whole = whole and line.message == b"line %d of a log with some words in it" % count
        count += 1
    print(json.dumps({"seconds": time.perf_counter() - began, "lines": count, "whole": whole}))
