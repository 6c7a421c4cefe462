"""The unique id of a step that is given much data, against plain SHA-256 of it."""

from __future__ import annotations

import environments
from harness import RUNS, Row, answer, milliseconds, times


def rows() -> list[Row]:
    """Measure in processes of their own, since 100 MB of arguments would weigh on every later one."""
    ours = answer(environments.numpy(), "identity", 3 * RUNS)
    theirs = answer(environments.tango() / "python", "identity_tango", RUNS)
    return [
        Row(
            "`unique_id` of 100 MB of bytes, over SHA-256 of them",
            f"{milliseconds(ours['bytes'])}, {ours['ratio']:.2f} ×,"
            f" {ours['bytes_memory'] / 1e6:.0f} MB more memory",
            "≤ 1.2 ×",
        ),
        Row(
            "the same as a NumPy array",
            f"{milliseconds(ours['array'])}, {times(ours['array'], ours['sha256'])},"
            f" {ours['array_memory'] / 1e6:.0f} MB more memory",
        ),
        Row("100 MB of bytes, Tango", milliseconds(theirs["bytes"])),
        Row(
            "`unique_id` of a step with one number; Tango",
            f"{ours['small'] * 1e6:.0f} µs; {theirs['small'] * 1e6:.0f} µs",
        ),
    ]
