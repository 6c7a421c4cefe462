"""Reads handwritten digits: the steps of ``experiment.yml``, one module for each of its step types."""
