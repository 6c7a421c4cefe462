"""What a spec names, looked up when its experiment is made: images, datasets, clusters, secrets, a budget.

Owns the change from names to ids, and the refusals of what is not there, may not be seen or may not be used
yet. Whether a cluster has room, or will ever have, is no reason to refuse: the scheduler says that as an
event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from dispatch.beakerd.access import Principal
from dispatch.beakerd.config import Assumptions
from dispatch.beakerd.problems import Problem, invalid
from dispatch.beakerd.spec import DataMount, ExperimentSpec, TaskSpec
from dispatch.beakerd.store import datasets, images
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.setup import PRIORITIES


@dataclass(frozen=True)
class References:
    """Looks names up for one caller and one workspace. ``host_paths`` are the directories of this machine
    that jobs may mount."""

    tx: Transaction
    who: Principal
    workspace: Any
    assume: Assumptions
    host_paths: Sequence[Path] = ()

    def resolve(self, spec: ExperimentSpec) -> ExperimentSpec:
        """The spec with ids in place of names, and the budget that it is counted to.

        :raises Problem: INVALID, with the field's path
        """
        tasks = tuple(self._task(task, f"tasks[{place}]") for place, task in enumerate(spec.tasks))
        budget = self._budget(spec.budget) if spec.budget else self.workspace["budget_id"]
        return replace(spec, tasks=tasks, budget=budget)

    def _task(self, task: TaskSpec, path: str) -> TaskSpec:
        self.check_priority(task.priority, f"{path}.context.priority")
        for place, variable in enumerate(task.env):
            if variable.secret:
                self._secret(variable.secret, f"{path}.envVars[{place}].secret")
        mounts = tuple(
            self._mount(mount, f"{path}.datasets[{place}]") for place, mount in enumerate(task.mounts)
        )
        image = task.image
        if image.beaker:
            image = replace(image, beaker=self._image(image.beaker, f"{path}.image.beaker"))
        return replace(task, image=image, mounts=mounts, clusters=self._clusters(task, path))

    def check_priority(self, priority: int, path: str) -> None:
        """Refuse a priority above the workspace's highest.

        :raises Problem: INVALID
        """
        if priority > self.workspace["maximum_priority"]:
            names = {number: name for name, number in PRIORITIES.items()}
            highest = names[self.workspace["maximum_priority"]]
            raise invalid(f"{path}: the workspace allows {highest} at most, not {names[priority]}")

    def _image(self, name: str, path: str) -> str:
        try:
            image = images.find(self.tx, self.who, name)
        except Problem as problem:
            raise _missing(path, "image", name) from problem
        if image.committed is None:
            raise invalid(f"{path}: image {name!r} is not committed yet")
        return image.id

    def _mount(self, mount: DataMount, path: str) -> DataMount:
        if mount.weka or mount.volume:
            kind = "weka" if mount.weka else "volume"
            raise invalid(f"{path}.source.{kind}: this server has none; mount a directory with hostPath")
        if mount.host_path is not None:
            self._host_path(mount.host_path, f"{path}.source.hostPath")
        if mount.secret is not None:
            self._secret(mount.secret, f"{path}.source.secret")
        if mount.beaker is None:
            return mount
        row = self._dataset(mount.beaker, f"{path}.source.beaker")
        if row["committed"] is None and not self.assume.mount_uncommitted:
            raise invalid(f"{path}.source.beaker: dataset {mount.beaker!r} is not committed yet")
        return replace(mount, beaker=str(row["id"]))

    def _host_path(self, path: str, where: str) -> None:
        if not any(PurePosixPath(path).is_relative_to(allowed) for allowed in self.host_paths):
            raise invalid(f"{where}: {path} is in none of the directories that jobs may mount (host_paths)")

    def _dataset(self, name: str, path: str) -> Any:
        """A dataset by id, ``author/name``, or the name of one of the caller's own."""
        author, slash, rest = name.partition("/")
        known = self.tx.execute("SELECT 1 FROM datasets WHERE id = ?", (name,)).fetchone()
        try:
            if slash:
                name = datasets.resolve(self.tx, self.who, author, rest)
            elif known is None:
                name = datasets.resolve(self.tx, self.who, self._caller(), name)
            return datasets.find(self.tx, self.who, name)
        except Problem as problem:
            raise invalid(f"{path}: {problem.message}") from problem

    def _caller(self) -> str:
        row = self.tx.execute("SELECT name FROM users WHERE id = ?", (self.who.user_id,)).fetchone()
        return str(row["name"])

    def _secret(self, name: str, path: str) -> None:
        known = self.tx.execute(
            "SELECT 1 FROM secrets WHERE workspace_id = ? AND name = ?", (self.workspace["id"], name)
        ).fetchone()
        if known is None and self.assume.check_secrets:
            raise invalid(f"{path}: the workspace has no secret {name!r}")

    def _clusters(self, task: TaskSpec, path: str) -> tuple[str, ...]:
        field = f"{path}.constraints.cluster"
        found = [self._cluster(name, f"{field}[{place}]") for place, name in enumerate(task.clusters)]
        return tuple(dict.fromkeys(found))

    def _cluster(self, name: str, path: str) -> str:
        owner, slash, rest = name.partition("/")
        row = self.tx.execute(
            "SELECT c.id FROM clusters c JOIN organizations o ON o.id = c.organization_id"
            " WHERE NOT c.retired AND (c.id = ?1 OR (CASE WHEN ?2 THEN o.name = ?3 ELSE o.id = ?5 END AND"
            " (c.name = ?4 OR EXISTS (SELECT 1 FROM json_each(c.aliases) WHERE value IN (?1, ?4)))))"
            " ORDER BY c.id = ?1 DESC, c.name = ?4 DESC LIMIT 1",
            (name, bool(slash), owner, rest if slash else name, self.workspace["organization_id"]),
        ).fetchone()
        if row is None:
            raise _missing(path, "cluster", name)
        return str(row["id"])

    def _budget(self, name: str) -> str:
        owner, slash, rest = name.partition("/")
        row = self.tx.execute(
            "SELECT b.id FROM budgets b JOIN organizations o ON o.id = b.organization_id"
            " WHERE b.id = ?1 OR (b.name = ?3 AND CASE WHEN ?2 = '' THEN o.id = ?4 ELSE o.name = ?2 END)",
            (name, owner if slash else "", rest if slash else name, self.workspace["organization_id"]),
        ).fetchone()
        if row is None:
            raise _missing("budget", "budget", name)
        return str(row["id"])


def _missing(path: str, what: str, name: str) -> Problem:
    return invalid(f"{path}: {what} {name!r} not found")
