"""A training that is interrupted, and goes on from where it was: its work directory survives attempts."""

import json

from dispatch import Step


class Preempted(RuntimeError):
    """The machine was wanted for something else."""


@Step.register("train")
class Train(Step):
    """Sums up the numbers of its epochs, and keeps the state after each."""

    def run(self, epochs: int, breaks_after: list) -> dict:
        checkpoint = self.work_dir / "checkpoint.json"
        state = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"epoch": 0, "sum": 0}
        first = state["epoch"]
        self.logger.info("from epoch %d", first)
        for epoch in range(first, epochs):
            state = {"epoch": epoch + 1, "sum": state["sum"] + epoch}
            draft = checkpoint.with_suffix(".part")
            draft.write_text(json.dumps(state))
            draft.replace(checkpoint)
            if epoch in breaks_after and epoch > first:
                raise Preempted(f"after epoch {epoch}")
        return {"sum": state["sum"], "resumed_from": first}
