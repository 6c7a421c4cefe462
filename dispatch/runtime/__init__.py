"""What runs inside a step's container: describes steps, runs a step.

Standard library only, Python 3.9 and newer, and small: every container step pays for its imports. Everything
here is imported before the user's files join the path, so that none of them can stand in for the library's.
"""
