"""Which job runs where, and when: the plan as a pure function, and the loop that carries it out.

Owns placement, priority, preemption, and the sentence that says why a job waits. Changes of a job's state are
``store.lifecycle``'s, containers are the runner's.
"""
