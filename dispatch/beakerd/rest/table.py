"""All routes that are answered, from the modules that answer them."""

from __future__ import annotations

from dispatch.beakerd.rest import control, datasets, experiments, images, local, registry, secrets, uploads
from dispatch.beakerd.rest.app import Route

ROUTES: list[Route] = [
    *control.ROUTES,
    *datasets.ROUTES,
    *experiments.ROUTES,
    *images.ROUTES,
    *local.ROUTES,
    *registry.ROUTES,
    *secrets.ROUTES,
    *uploads.ROUTES,
]
