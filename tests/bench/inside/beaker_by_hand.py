"""A local Beaker whose jobs nobody runs: they begin and end as standard input says, in no container.

Commands, one a line, each answered by a line of JSON: ``begin`` all that wait, ``end`` the oldest that runs,
``created`` when each experiment was made. What it tells first is where it is.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dispatch.beakerd.config import ClusterConfig, Config, NodeConfig
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_jobs import Hand

WIDE = NodeConfig("wide", 1024, 1 << 42, slots=1024)
CONFIG = Config(clusters=(ClusterConfig("ai2/general-cirrascale", (WIDE,)),), control=True)


def obey(hand: Hand, command: str) -> Any:
    """Carry out one command."""
    with hand.backend.database.read() as tx:
        rows = tx.execute(
            "SELECT id, started FROM jobs WHERE finalized IS NULL AND canceled_code IS NULL ORDER BY created"
        ).fetchall()
    if command == "begin":
        waiting = [row["id"] for row in rows if row["started"] is None]
        for job in waiting:
            hand.begin(job)
        return len(waiting)
    if command == "end":
        job = next(row["id"] for row in rows if row["started"] is not None)
        hand.exit(job)
        # As a client may see it: before the transaction that makes it true.
        at = time.time()
        hand.finalize(job)
        return at
    with hand.backend.database.read() as tx:
        return [row[0] / 1e9 for row in tx.execute("SELECT created FROM experiments ORDER BY created")]


def main(root: Path, authority: Path) -> None:
    """Serve until standard input ends."""
    beakers = Beakers(root, authority)
    beakers.prepare()
    beaker = beakers.start(CONFIG)
    hand = Hand(beaker)
    config = beaker.layout.users / "me" / "config.yml"
    told = {"ca": str(beakers.authority), "config": str(config), "endpoint": asdict(beaker.endpoint)}
    print(json.dumps({**told, "root": str(beaker.layout.root)}), flush=True)
    for line in sys.stdin:
        print(json.dumps(obey(hand, line.strip())), flush=True)
    beakers.close()


main(Path(sys.argv[1]), Path(sys.argv[2]))
