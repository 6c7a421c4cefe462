"""Steps that tell when they began, by a clock that tests read, too: so it shows whether one ran twice."""

from __future__ import annotations

from pathlib import Path

from dispatch.testing.busybox import REFERENCE

_CLOCK = Path("/proc/uptime")
_COMMAND = (
    'cat /proc/uptime > "$DISPATCH_OUTPUT_DIR/began"; echo begun; {}; echo {} > "$DISPATCH_OUTPUT_DIR/value"'
)


def shell_step(value: str, does: str, *needs: str) -> dict[str, object]:
    """A step, as config has it, that does something in a container and leaves a value."""
    return {
        "type": "shell",
        "step_image": {"docker": REFERENCE},
        "step_network": "none",
        "command": _COMMAND.format(does, value),
        "inputs": {need: {"ref": need} for need in needs},
    }


def uptime() -> float:
    """The kernel's clock, in seconds, to a hundredth."""
    return float(_CLOCK.read_text().split()[0])


def began(result: str) -> float:
    """When the attempt began whose result lies there."""
    return float((Path(result) / "began").read_text().split()[0])


def value_of(result: str) -> str:
    """The value that was left there."""
    return (Path(result) / "value").read_text().strip()
