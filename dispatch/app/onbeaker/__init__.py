"""A run whose executor is Beaker's: what it has that a run on this machine has not.

Owns the refusals and warnings that the settings call for, the image of steps that name none, how the source
comes into a job, and which parts are put together. What a part does is its own affair.
"""
