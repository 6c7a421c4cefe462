"""Jobs as experiments of Beaker, and the bundles they mount."""

from dispatch.engine.beaker.bundles import Bundles
from dispatch.engine.beaker.engine import BeakerEngine
from dispatch.engine.beaker.extras import Extras

__all__ = ["BeakerEngine", "Bundles", "Extras"]
