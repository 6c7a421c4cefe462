"""All routes that are answered, from the modules that answer them."""

from __future__ import annotations

from dispatch.beakerd.rest import control, experiments, images, local, registry
from dispatch.beakerd.rest.app import Route

ROUTES: list[Route] = [
    *control.ROUTES,
    *experiments.ROUTES,
    *images.ROUTES,
    *local.ROUTES,
    *registry.ROUTES,
]
