"""Images: from a declaration and its lock to an image in the engine, the same bytes wherever it is made.

``plan.plan_images`` says what building would do, ``builder.Builder`` does it, ``base.base_facts`` tells what
a lock must know of its base. The way down: ``recipes`` → ``spec`` (digest, tag) → ``maker`` → ``pip``,
``bytecode``, ``debian`` (layers) → ``tar``, ``layers`` (bytes, cache) → ``config``, ``direct``
(configuration, archive).
"""
