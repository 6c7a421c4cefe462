"""The plan of the local Beaker: tables of what it decides and says, and what holds for every plan."""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.beakerd.schedule.plan import plan, suits
from dispatch.beakerd.schedule.values import (
    Amount,
    Decisions,
    Node,
    Preemptibility,
    Rules,
    Running,
    Waiting,
    slots_of,
)

GIB = 1 << 30
SECOND = 1_000_000_000
NOW = 1000 * SECOND
LOW, NORMAL, HIGH, URGENT = 1, 2, 3, 4
EXAMPLES = max(50, int(250 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
NEVER = Preemptibility(preemptible=False)
LATER = Preemptibility(min_runtime=60 * SECOND)
SMALL = Node("n1", "local-1", "c1", "ai2/one", Amount(2, 2000, 4 * GIB, 0))
BIG = Node("n2", "gpu-1", "c2", "ai2/gpus", Amount(8, 16000, 64 * GIB, 4))


def one(name: str, priority: int = NORMAL, **others: Any) -> Waiting:
    """A job that asks for a slot; its place in the queue is the number in its name."""
    asked = Amount(1, *(others.pop(each, 0) for each in ("cpus", "memory", "gpus")))
    return Waiting(name, priority, int(name.strip("abcdefghijklmnopqrstuvwxyz")), asked, **others)


def on(node: Node, name: str, priority: int = NORMAL, since: int | None = NOW, **others: Any) -> Running:
    """A job that runs on a node."""
    asked = Amount(1, *(others.pop(each, 0) for each in ("cpus", "memory", "gpus")))
    gpus = tuple(others.pop("ids", node.gpus[: asked.gpus]))
    return Running(name, node.id, priority, asked, gpus, since, **others)


def decide(
    waiting: Sequence[Waiting],
    running: Sequence[Running] = (),
    nodes: Sequence[Node] = (SMALL,),
    rules: Rules | None = None,
) -> Decisions:
    """Plan at NOW."""
    return plan(waiting, running, nodes, NOW, rules or Rules())


def placed(decisions: Decisions) -> dict[str, str]:
    """Jobs and their nodes."""
    return {each.job: each.node for each in decisions.assignments}


def stopped(decisions: Decisions) -> dict[str, str]:
    """Victims and whom they make way for."""
    return {each.job: each.by for each in decisions.preemptions}


# Placement.


def test_slots_bound_how_many_run_at_once_whatever_they_ask() -> None:
    """Jobs that ask for nothing fill a node's slots, first come first."""
    assert placed(decide([one("j3"), one("j1"), one("j2")])) == {"j1": "n1", "j2": "n1"}


@pytest.mark.parametrize(
    ("cpus", "gpus", "declared", "slots"),
    [(2000, 0, None, 2), (500, 0, None, 1), (2000, 8, None, 8), (64000, 8, 3, 3), (2000, 0, 0, 0)],
)
def test_a_node_has_a_slot_for_each_cpu_or_gpu(
    cpus: int, gpus: int, declared: int | None, slots: int
) -> None:
    """Without a declaration it is the larger number, and never none."""
    assert slots_of(cpus, gpus, declared) == slots


def test_priority_goes_before_age() -> None:
    """Of two that wait, the one of higher priority runs, though it came later."""
    full = [on(SMALL, "r", URGENT)]
    assert placed(decide([one("j1", LOW), one("j2", HIGH)], full)) == {"j2": "n1"}


def test_cpus_and_memory_that_are_asked_for_are_kept() -> None:
    """Two jobs of two cpus do not run side by side on a node of two."""
    assert placed(decide([one("j1", cpus=2000), one("j2", cpus=500)])) == {"j1": "n1"}
    assert placed(decide([one("j1", memory=3 * GIB), one("j2", memory=2 * GIB)])) == {"j1": "n1"}


def test_gpus_are_given_by_id_and_to_one_job_each() -> None:
    """A job gets the ids that no other has."""
    decisions = decide([one("j1", gpus=2), one("j2", gpus=1)], [on(BIG, "r", gpus=1, ids=("1",))], [BIG])
    assert [each.gpus for each in decisions.assignments] == [("0", "2"), ("3",)]


def test_jobs_without_gpus_leave_nodes_with_gpus_to_others() -> None:
    """They go where there are none as long as there is room."""
    decisions = decide([one("j1"), one("j2"), one("j3")], nodes=[SMALL, BIG])
    assert placed(decisions) == {"j1": "n1", "j2": "n1", "j3": "n2"}


def test_nodes_are_filled_one_by_one() -> None:
    """A job of one GPU goes to the node that has fewer left, so that another stays whole."""
    other = replace(BIG, id="n3", hostname="gpu-2")
    decisions = decide([one("j1", gpus=1)], [on(other, "r", gpus=2)], [BIG, other])
    assert placed(decisions) == {"j1": "n3"}


@pytest.mark.parametrize(
    ("job", "node"),
    [
        (one("j1", clusters=("c2",)), "n2"),
        (one("j1", clusters=("c9", "c1")), "n1"),
        (one("j1", hostnames=("gpu-1",)), "n2"),
        (one("j1", gpus=1), "n2"),
        (one("j1", cpus=4000), "n2"),
        (one("j1", clusters=("c1",), hostnames=("gpu-1",)), None),
    ],
)
def test_constraints_choose_the_node(job: Waiting, node: str | None) -> None:
    """Any of the clusters, and any of the hostnames."""
    assert placed(decide([job], nodes=[SMALL, BIG])).get("j1") == node


def test_a_time_limit_above_the_clusters_is_not_run_there() -> None:
    """A cluster takes no task whose own limit is above its maximum."""
    strict = replace(SMALL, max_timeout=60 * SECOND)
    decisions = decide([one("j1", timeout=61 * SECOND), one("j2", timeout=60 * SECOND)], nodes=[strict])
    assert placed(decisions) == {"j2": "n1"}
    assert decisions.reasons["j1"] == (
        "can never run: its time limit of 1 m 01 s is over the 1 m 00 s that ai2/one allows"
    )


# Big jobs among small ones.


def test_small_jobs_do_not_pass_a_big_one_that_was_first() -> None:
    """What a big job waits for is kept for it, though a job behind it would fit."""
    waiting = [one("j1", gpus=4), one("j2", gpus=1)]
    decisions = decide(waiting, [on(BIG, "r", gpus=1, yields=NEVER)], [BIG])
    assert placed(decisions) == {}
    assert placed(decide(waiting, [on(BIG, "r", gpus=1)], [BIG], Rules(strict_order=False))) == {"j2": "n2"}


def test_a_job_that_takes_nothing_of_what_is_missing_runs_meanwhile() -> None:
    """A job without GPUs does not delay one that waits for them."""
    waiting = [one("j1", gpus=4, cpus=8000), one("j2", cpus=4000), one("j3", cpus=8000)]
    decisions = decide(waiting, [on(BIG, "r", gpus=1, yields=NEVER)], [BIG])
    assert placed(decisions) == {"j2": "n2"}


def test_a_job_that_makes_way_at_once_runs_meanwhile() -> None:
    """Lower priority, and preemptible from its first moment: it can be stopped when the room is there."""
    running = [on(BIG, "r", HIGH, gpus=1)]
    for yields, there in ((Preemptibility(), {"j2": "n2"}), (LATER, {}), (NEVER, {})):
        waiting = [one("j1", HIGH, gpus=4), one("j2", LOW, gpus=1, yields=yields)]
        assert placed(decide(waiting, running, [BIG])) == there


def test_a_job_may_go_where_one_of_higher_priority_may_not() -> None:
    """Two ask for the same; the first is held up by a big one, the second would make way for that."""
    waiting = [one("j1", HIGH, gpus=4), one("j2", HIGH, gpus=1), one("j3", LOW, gpus=1)]
    assert placed(decide(waiting, [on(BIG, "r", HIGH, gpus=1)], [BIG])) == {"j3": "n2"}


@pytest.mark.parametrize(("first", "second", "there"), [(3, 1, "n2"), (1, 3, "n3")])
def test_only_one_node_is_kept_for_a_big_job(first: int, second: int, there: str) -> None:
    """The nearest to having room for it; others go on."""
    other = replace(BIG, id="n3", hostname="gpu-2")
    running = [on(BIG, "r1", gpus=first), on(other, "r2", gpus=second)]
    decisions = decide([one("j1", gpus=4), one("j2", gpus=1), one("j3", gpus=1)], running, [BIG, other])
    assert placed(decisions) == {"j2": there}


def test_small_jobs_that_keep_coming_do_not_starve_a_big_one() -> None:
    """Four small jobs end one by one, and one more comes each time: then the big one runs."""
    running = {f"r{each}": on(BIG, f"r{each}", gpus=1, ids=(str(each),)) for each in range(4)}
    for ended in range(4):
        waiting = [one("j1", gpus=4), *(one(f"s{each}", gpus=1) for each in range(100, 104 + ended))]
        decisions = decide(waiting, list(running.values()), [BIG])
        assert placed(decisions) == {}
        del running[f"r{ended}"]
    assert placed(decide([one("j1", gpus=4), one("s2", gpus=1)], [], [BIG])) == {"j1": "n2"}


# Preemption.


def test_a_job_of_higher_priority_takes_the_place_of_a_lower_one() -> None:
    """One victim, as one slot is needed, and the youngest."""
    running = [on(SMALL, "r1", LOW, NOW - 9), on(SMALL, "r2", LOW, NOW - 5)]
    decisions = decide([one("j1", HIGH)], running)
    assert (placed(decisions), stopped(decisions)) == ({}, {"r2": "j1"})


def test_the_same_priority_takes_nobodys_place() -> None:
    """Only a higher one does."""
    assert not decide([one("j1")], [on(SMALL, "r1"), on(SMALL, "r2")]).preemptions


def test_nobody_is_preempted_where_that_makes_no_room() -> None:
    """Four GPUs of which two are of a job that stays: no use in stopping the others."""
    running = [on(BIG, "r1", HIGH, gpus=2), on(BIG, "r2", LOW, gpus=1), on(BIG, "r3", LOW, gpus=1)]
    assert not decide([one("j1", HIGH, gpus=4)], running, [BIG]).preemptions


def test_the_fewest_are_preempted() -> None:
    """One job of two GPUs, not two of one."""
    running = [
        on(BIG, "r1", LOW, NOW, gpus=1),
        on(BIG, "r2", LOW, NOW, gpus=1),
        on(BIG, "r3", LOW, NOW - 99, gpus=2),
    ]
    assert stopped(decide([one("j1", HIGH, gpus=2)], running, [BIG])) == {"r3": "j1"}


def test_a_victim_that_others_make_needless_is_spared() -> None:
    """The one that gives most of all is no longer needed when what is still missing has come."""
    running = [
        on(BIG, "r1", LOW, gpus=3, cpus=9000),
        on(BIG, "r2", LOW, cpus=16000, gpus=0),
        on(BIG, "r3", LOW, gpus=4, ids=("0", "1", "2", "3")),
    ]
    node = replace(BIG, capacity=Amount(8, 25000, GIB, 7))
    decisions = decide([one("j1", HIGH, gpus=4, cpus=16000)], running, [node])
    assert set(stopped(decisions)) == {"r2", "r3"}


def test_nobody_is_preempted_on_a_node_that_is_kept_for_another() -> None:
    """Who is not given the place that this makes has no use for it."""
    running = [on(BIG, "r1", gpus=1, yields=NEVER), on(BIG, "r2", LOW, gpus=1, ids=("1",))]
    waiting = [one("j1", URGENT, gpus=4), one("j2", HIGH, gpus=3)]
    assert not decide(waiting, running, [BIG]).preemptions


def test_the_node_with_fewer_victims_is_chosen() -> None:
    """And on equal numbers the one whose victims are of lower priority."""
    other = replace(BIG, id="n3", hostname="gpu-2")
    running = [on(BIG, f"r{each}", LOW, gpus=1, ids=(str(each),)) for each in range(4)]
    running += [on(other, "r9", NORMAL, gpus=4)]
    assert stopped(decide([one("j1", HIGH, gpus=4)], running, [BIG, other])) == {"r9": "j1"}
    assert stopped(decide([one("j1", HIGH, gpus=1)], running, [BIG, other])) == {"r0": "j1"}


def test_a_job_that_is_promised_a_place_preempts_no_more() -> None:
    """While its victim stops it waits, and nobody else is stopped for it, nor given its place."""
    running = [on(SMALL, "r1", LOW), on(SMALL, "r2", LOW, stopping=True)]
    decisions = decide([one("j1", HIGH), one("j2", LOW)], running)
    assert (placed(decisions), stopped(decisions)) == ({}, {})
    assert decisions.reasons["j1"] == "waits for a job to stop on local-1"


def test_two_jobs_preempt_two_at_once() -> None:
    """The second does not wait until the first has its place."""
    running = [on(SMALL, "r1", LOW), on(SMALL, "r2", LOW)]
    assert set(stopped(decide([one("j1", HIGH), one("j2", URGENT)], running)).values()) == {"j1", "j2"}


@pytest.mark.parametrize(
    ("yields", "since", "unasked", "goes", "wake"),
    [
        (Preemptibility(), NOW, True, True, None),
        (Preemptibility(), None, True, True, None),
        (Preemptibility(), NOW, False, False, None),
        (Preemptibility(preemptible=True), NOW, False, True, None),
        (NEVER, NOW - 99 * SECOND, True, False, None),
        (LATER, NOW - 60 * SECOND, False, True, None),
        (LATER, NOW - 59 * SECOND, True, False, NOW + SECOND),
        (LATER, None, True, False, NOW + 60 * SECOND),
    ],
)
def test_who_may_be_preempted_and_when(
    yields: Preemptibility, since: int | None, unasked: bool, goes: bool, wake: int | None
) -> None:
    """Its minimum run time protects a job, from its start on; the plan says when to look again."""
    running = [on(SMALL, "r1", LOW, since, yields=yields), on(SMALL, "r2", URGENT)]
    decisions = decide([one("j1", HIGH)], running, rules=Rules(preempt_unasked=unasked))
    assert (bool(decisions.preemptions), decisions.wake) == (goes, wake)


# Reasons.


@pytest.mark.parametrize(
    ("job", "nodes", "reason"),
    [
        (one("j1", gpus=8), [SMALL, BIG], "can never run: asks 8 GPUs, the largest node has 4 GPUs"),
        (
            one("j1", memory=8 * GIB),
            [SMALL],
            "can never run: asks 8 GiB of memory, local-1 has 4 GiB of memory",
        ),
        (one("j1", cpus=2500), [SMALL], "can never run: asks 2.5 cpus, local-1 has 2 cpus"),
        (
            one("j1", cpus=16000, gpus=4),
            [
                replace(BIG, capacity=Amount(8, 8000, GIB, 4)),
                replace(SMALL, capacity=Amount(8, 32000, GIB, 0)),
            ],
            "can never run: no node has 16 cpus and 4 GPUs together",
        ),
        (one("j1", clusters=("c7",)), [SMALL], "can never run: its clusters have no node"),
        (one("j1", hostnames=("x", "y")), [SMALL], "can never run: no node of its clusters is named x, y"),
        (one("j1"), [], "can never run: there is no node"),
        (
            one("j1"),
            [replace(SMALL, closed="cordoned (fans)"), replace(BIG, closed="lost")],
            "waits for a node: gpu-1 is lost, local-1 is cordoned (fans)",
        ),
    ],
)
def test_a_job_that_no_node_takes_is_told_why(job: Waiting, nodes: list[Node], reason: str) -> None:
    """The sentence names what it asks and what there is."""
    decisions = decide([job], nodes=nodes)
    assert (dict(decisions.reasons), decisions.assignments) == ({"j1": reason}, ())


def test_a_job_that_waits_is_told_for_what_and_behind_how_many() -> None:
    """What is free is said to the first, the number ahead in steps: the sentences of a long queue stay."""
    running = [on(SMALL, "r1", cpus=1500), on(SMALL, "r2")]
    waiting = [one("j1"), *(one(f"j{each}", cpus=1000) for each in range(2, 120))]
    reasons = decide(waiting, running).reasons
    assert reasons["j1"] == "waits for a slot (0 of 2 free) on local-1"
    assert reasons["j2"] == (
        "waits for a slot (0 of 2 free), 1 cpu (0.5 cpus free) on local-1; 1 is ahead of it"
    )
    assert reasons["j5"] == "waits for a slot and 1 cpu on local-1; 3 or more are ahead of it"
    assert reasons["j119"] == "waits for a slot and 1 cpu on local-1; 100 or more are ahead of it"


def test_those_who_want_other_nodes_are_not_ahead() -> None:
    """Only who could take the same node is counted."""
    full = [on(SMALL, "r1"), on(SMALL, "r2"), on(BIG, "r3", gpus=4)]
    waiting = [one("j1", gpus=1), one("j2", clusters=("c1",))]
    assert "ahead" not in decide(waiting, full, [SMALL, BIG]).reasons["j2"]


def test_a_job_behind_a_big_one_is_told_so() -> None:
    """It would fit, but for the order."""
    decisions = decide([one("j1", gpus=4), one("j2", gpus=1)], [on(BIG, "r", gpus=1, yields=NEVER)], [BIG])
    assert decisions.reasons["j2"] == (
        "waits: the room for it on gpu-1 is kept for a job ahead that needs more; 1 is ahead of it"
    )


# What holds for every plan.

amounts = st.builds(
    Amount,
    st.just(1),
    st.sampled_from([0, 500, 1000, 4000]),
    st.sampled_from([0, GIB, 9 * GIB]),
    st.integers(0, 4),
)
yieldings = st.builds(Preemptibility, st.sampled_from([None, True, False]), st.sampled_from([0, 5 * SECOND]))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[Waiting], list[Running], list[Node], Rules]:
    """Nodes, jobs that run within their capacity, and jobs that wait."""
    nodes = [
        Node(
            f"n{number}",
            f"host-{number}",
            f"c{draw(st.integers(0, 1))}",
            "ai2/any",
            Amount(
                draw(st.integers(1, 4)),
                draw(st.sampled_from([2000, 8000])),
                16 * GIB,
                draw(st.integers(0, 4)),
            ),
            draw(st.sampled_from(["", "", "", "cordoned"])),
        )
        for number in range(draw(st.integers(1, 4)))
    ]
    running: list[Running] = []
    for node in nodes:
        free, gpus = node.capacity, list(node.gpus)
        for need in draw(st.lists(amounts, max_size=4)):
            if not need.fits(free):
                continue
            free = free.minus(need)
            running.append(
                Running(
                    f"r{len(running)}",
                    node.id,
                    draw(st.integers(1, 5)),
                    need,
                    tuple(gpus.pop() for _ in range(need.gpus)),
                    draw(st.sampled_from([None, NOW - 60 * SECOND, NOW - SECOND])),
                    draw(yieldings),
                    draw(st.booleans()),
                )
            )
    waiting = [
        Waiting(
            f"j{number}",
            draw(st.integers(1, 5)),
            draw(st.integers(0, 3)),
            draw(amounts),
            draw(st.sampled_from([(), (), ("c0",)])),
            yields=draw(yieldings),
        )
        for number in range(draw(st.integers(0, 8)))
    ]
    return waiting, running, nodes, Rules(draw(st.booleans()), draw(st.booleans()))


Scene = tuple[list[Waiting], list[Running], list[Node], Rules]


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(scenes())
def test_no_node_is_ever_over_its_capacity(scene: Scene) -> None:
    """With what runs and what was just assigned, and no GPU is given twice; closed nodes get nothing."""
    waiting, running, nodes, rules = scene
    decisions = plan(waiting, running, nodes, NOW, rules)
    needs, known = {job.id: job for job in waiting}, {node.id: node for node in nodes}
    used: dict[str, Amount] = defaultdict(Amount)
    gpus: dict[str, list[str]] = defaultdict(list)
    for job in running:
        used[job.node] = used[job.node].plus(job.need)
        gpus[job.node] += job.gpus
    for each in decisions.assignments:
        assert suits(needs[each.job], known[each.node])
        assert not known[each.node].closed
        used[each.node] = used[each.node].plus(needs[each.job].need)
        gpus[each.node] += each.gpus
        assert len(each.gpus) == needs[each.job].need.gpus
    for node in nodes:
        assert used[node.id].fits(node.capacity)
        assert len(set(gpus[node.id])) == len(gpus[node.id])
        assert set(gpus[node.id]) <= set(node.gpus)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(scenes())
def test_every_job_is_placed_or_told_why_and_no_slot_idles(scene: Scene) -> None:
    """What does not run is told why; with nothing kept for big jobs or promised, nothing that fits waits."""
    waiting, running, nodes, rules = scene
    decisions = plan(waiting, running, nodes, NOW, rules)
    assert set(placed(decisions)) | set(decisions.reasons) == {job.id for job in waiting}
    assert not set(placed(decisions)) & set(decisions.reasons)
    if rules.strict_order or decisions.preemptions or any(job.stopping for job in running):
        return
    needs = {job.id: job.need for job in waiting}
    free = {node.id: node.capacity for node in nodes}
    for node, need in [
        *((job.node, job.need) for job in running),
        *((each.node, needs[each.job]) for each in decisions.assignments),
    ]:
        free[node] = free[node].minus(need)
    for job in waiting:
        if job.id in decisions.reasons:
            there = [node for node in nodes if suits(job, node) and job.need.fits(free[node.id])]
            assert all(node.closed for node in there)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(scenes())
def test_the_first_in_order_is_never_passed(scene: Scene) -> None:
    """With strict order the first that can run at all either runs, or nothing that is placed delays it."""
    waiting, running, nodes, _ = scene
    rules = Rules()
    able = [job for job in waiting if any(suits(job, node) and not node.closed for node in nodes)]
    if not able:
        return
    first = min(able, key=lambda job: (-job.priority, job.queued, job.id))
    alone = plan([first], running, nodes, NOW, rules)
    together = plan(waiting, running, nodes, NOW, rules)
    assert placed(together).get(first.id) == placed(alone).get(first.id)
    assert [each.job for each in together.preemptions if each.by == first.id] == [
        each.job for each in alone.preemptions
    ]


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(scenes())
def test_victims_are_of_lower_priority_and_each_is_needed(scene: Scene) -> None:
    """They may be preempted, have run for long enough, are on one node, and without any of them it fails."""
    waiting, running, nodes, rules = scene
    decisions = plan(waiting, running, nodes, NOW, rules)
    jobs, runs = {job.id: job for job in waiting}, {job.id: job for job in running}
    victims: dict[str, list[Running]] = defaultdict(list)
    assert len({each.job for each in decisions.preemptions}) == len(decisions.preemptions)
    for each in decisions.preemptions:
        victim = runs[each.job]
        victims[each.by].append(victim)
        assert victim.priority < jobs[each.by].priority
        assert rules.preemptible(victim.yields)
        assert not victim.stopping
        run = NOW - victim.since if victim.since is not None else 0
        assert run >= victim.yields.min_runtime
    for by, theirs in victims.items():
        assert by not in placed(decisions)
        assert len({victim.node for victim in theirs}) == 1
    if len(victims) == 1 and not decisions.assignments and not any(job.stopping for job in running):
        ((by, theirs),) = victims.items()
        node = next(node for node in nodes if node.id == theirs[0].node)
        left = [job for job in running if job.node == node.id and job not in theirs]
        for spared in [None, *theirs]:
            room = node.capacity
            for job in [*left, *([spared] if spared else [])]:
                room = room.minus(job.need)
            assert jobs[by].need.fits(room) is (spared is None)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(scenes(), st.randoms(use_true_random=False))
def test_the_order_of_the_arguments_makes_no_difference(scene: Scene, chance: random.Random) -> None:
    """The same jobs and nodes give the same decisions."""
    waiting, running, nodes, rules = scene
    first = plan(waiting, running, nodes, NOW, rules)
    for things in (waiting, running, nodes):
        chance.shuffle(things)
    assert plan(waiting, running, nodes, NOW, rules) == first


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(scenes(), st.randoms(use_true_random=False))
def test_all_that_can_run_does_in_the_end(scene: Scene, chance: random.Random) -> None:
    """Carried out again and again, with jobs ending in any order, every job is placed that a node takes."""
    waiting, running, nodes, rules = scene
    able = {job.id for job in waiting if any(suits(job, node) and not node.closed for node in nodes)}
    jobs, done, now = {job.id: job for job in waiting}, set(), NOW
    for _ in range(200):
        decisions = plan(waiting, running, nodes, now, rules)
        victims = set(stopped(decisions))
        running = [replace(job, stopping=job.stopping or job.id in victims) for job in running]
        for each in decisions.assignments:
            assert each.job not in done
            done.add(each.job)
            job = jobs[each.job]
            running.append(Running(job.id, each.node, job.priority, job.need, each.gpus, now, job.yields))
        waiting = [job for job in waiting if job.id not in done]
        if running:
            running.remove(chance.choice(running))
        now += SECOND
    assert done == able


def test_a_long_queue_is_planned_fast() -> None:
    """500 jobs of all kinds on 20 nodes: some milliseconds, even where all are full and none fits."""
    chance = random.Random(5)
    nodes = [
        replace(BIG, id=f"n{each}", hostname=f"gpu-{each}", cluster=f"c{each % 3}") for each in range(20)
    ]
    running = [
        on(node, f"{node.id}-{each}", chance.randint(1, 3), NOW, gpus=1, ids=(str(each),))
        for node in nodes
        for each in range(4)
    ]
    waiting = [
        one(
            f"j{each}",
            chance.randint(1, 4),
            gpus=chance.randint(0, 4),
            cpus=500 * chance.randint(0, 20),
            clusters=(f"c{chance.randint(0, 3)}",),
        )
        for each in range(500)
    ]
    took = []
    for _ in range(5):
        begun = time.process_time()
        decide(waiting, running, nodes)
        took.append(time.process_time() - begun)
    assert min(took) < 0.25
