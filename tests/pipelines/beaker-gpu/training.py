"""What stands in for training with torch: it says where it ran, and on how many GPUs."""

from __future__ import annotations

import os
import sys

from dispatch import Step


@Step.register("torch::train")
class Train(Step):
    def run(self, epochs: int = 2) -> dict:
        for epoch in range(epochs):
            self.logger.info("epoch %d: loss %.3f", epoch, 1 / (epoch + 1))
        gpus = os.environ.get("BEAKER_ASSIGNED_GPU_COUNT", "")
        return {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", "prefix": sys.prefix, "gpus": gpus}
