"""Engines: what runs jobs. ``base`` is the protocol; each implementation is imported by its own module."""
