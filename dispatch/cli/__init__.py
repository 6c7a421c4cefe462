"""The command line: one module a command. The only place that prints, prompts and exits.

Data goes to stdout, progress and errors to stderr. Commands hold no logic of their own: they turn arguments
into calls of ``app`` and values into text.
"""
