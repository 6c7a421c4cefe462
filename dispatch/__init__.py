"""Reproducible images for every step, on any engine, and nothing computed twice."""

__version__ = "0.1.0.dev0"
