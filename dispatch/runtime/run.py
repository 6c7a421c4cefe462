"""Runs one step in its container, from ``job.json`` to ``outcome.json``. Owns the process and how it ends.

The order at the end: write the result, run exit handlers, flush, rename the outcome into its place, leave.
Threads that the step left running are not waited for.
"""

# pathlib takes longer to import than all of the runtime.
# ruff: noqa: PTH103, PTH118, PTH123, PTH208

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time

from dispatch.errors import ConfigurationError, FormatError, StepError
from dispatch.formats import read_result
from dispatch.params import bind_arguments
from dispatch.runtime import failure, outcome
from dispatch.runtime.imports import open_source
from dispatch.runtime.outcome import OutcomeState
from dispatch.runtime.stage import Stage
from dispatch.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

SECRETS_DIR = "DISPATCH_SECRETS_DIR"
FAILED = 1
CANCELLED = 128 + signal.SIGTERM


class Cancelled(BaseException):
    """The engine asked the step to stop. No Exception, so that ``except Exception`` lets it pass."""


class Stop:
    """Turns TERM into :class:`Cancelled` in the step's own process, once.

    In a process that the step forks, TERM does what it does to any program: a worker must end quietly when
    its pool ends it. Python would drop a TERM that comes to a fork before Python has settled in it, so it is
    held back until then.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.asked = False
        self._mask: set[Any] = set()

    def install(self) -> None:
        """Take over TERM, in this process alone."""
        signal.signal(signal.SIGTERM, self)
        os.register_at_fork(
            before=self._hold_back, after_in_parent=self._let_through, after_in_child=self._hand_back
        )

    def __call__(self, number: int, frame: object) -> None:  # noqa: ARG002
        """Handle the signal."""
        if not self.asked:
            self.asked = True
            raise Cancelled

    def _hold_back(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def _let_through(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _hand_back(self) -> None:
        if signal.getsignal(signal.SIGTERM) is self:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._let_through()


class Verdict:
    """How the step ended: its state, its own exit code, and the exception if there was one."""

    def __init__(self, state: OutcomeState, exit_code: int, exception: dict[str, str] | None = None) -> None:
        self.state = state
        self.exit_code = exit_code
        self.exception = exception


def main(job_file: str, imported: Callable[[], None] | None = None) -> NoReturn:
    """Run the step of ``job_file`` and end the process; ``imported`` is called when its module is loaded."""
    started = time.time()
    stop = Stop()
    stop.install()
    secrets = _secrets(os.environ.get(SECRETS_DIR))
    with open(job_file, encoding="utf-8") as file:
        job = json.load(file)
    verdict = _judge(stop, lambda: _run(job, stop, imported), secrets)
    _leave(job, started, verdict, stop, secrets)


def _secrets(directory: str | None) -> list[str]:
    """The values that must not be told, as the step finds them."""
    found: list[str] = []
    if not directory:
        return found
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), "rb") as file:
            found.append(file.read().decode("utf-8", "surrogateescape"))
    return found


def _judge(stop: Stop, run: Callable[[], None], secrets: Sequence[str]) -> Verdict:
    """Run, and say how it ended, telling a failure's traceback on stderr."""
    error: BaseException | None = None
    try:
        run()
    except BaseException as caught:
        # Whatever it is, an outcome must be left.
        error = caught
    if os.getpid() != stop.owner:
        _leave_fork(error)
    if stop.asked or isinstance(error, Cancelled):
        return Verdict(OutcomeState.CANCELLED, CANCELLED)
    if error is None:
        return Verdict(OutcomeState.COMPLETED, 0)
    if isinstance(error, SystemExit):
        return _exited(error, secrets)
    recorded = failure.record(error, secrets)
    _tell(recorded["traceback"])
    return Verdict(OutcomeState.FAILED, FAILED, recorded)


def _exited(error: SystemExit, secrets: Sequence[str]) -> Verdict:
    """A step that calls sys.exit has failed whatever the code: there is no result."""
    code = error.code if isinstance(error.code, int) else int(error.code is not None)
    fault = StepError(
        f"the step called sys.exit({error.code!r}) and so has no result", "return the result from run()"
    )
    recorded = {**failure.record(fault.with_traceback(error.__traceback__), secrets), "type": "SystemExit"}
    _tell(recorded["traceback"])
    return Verdict(OutcomeState.FAILED, code, recorded)


def _run(job: Mapping[str, Any], stop: Stop, imported: Callable[[], None] | None) -> None:
    """Make the step, give it its arguments, and write what it returns."""
    if job["contract"] != outcome.CONTRACT:
        raise ConfigurationError(f"job: contract {job['contract']!r} is not known")
    result = os.path.join(job["output"], "result")
    os.makedirs(result, exist_ok=True)
    open_source(job["paths"])
    declared = job["step"]
    step = _step(declared["name"], declared, job["work"])
    if imported is not None:
        imported()
    step.format.ensure_available()
    arguments = bind_arguments(step.run, job["arguments"], substitute=Inputs(job), step=declared["name"])
    step.kwargs = arguments
    value = step.run(**arguments)
    if os.getpid() != stop.owner:
        _leave_fork(None)
    if stop.asked:
        # The step swallowed the request and came to an end of its own: what it returns may be half a result.
        raise Cancelled
    try:
        step.format.write(value, result, own=(job["output"], job["work"]))
    except FormatError as error:
        raise _quarantined(error, value, os.path.join(job["output"], "quarantine")) from error.__cause__


def _quarantined(error: FormatError, value: Any, directory: str) -> FormatError:
    """Keep what the step returned, as far as it can be kept, and say where."""
    from dispatch.formats import quarantine

    kept = quarantine(value, directory)
    if kept is None:
        return error
    # In a container the path says little outside: the end of it is the same in the attempt's directory.
    fact = f"what the step returned is kept as {kept} (output/quarantine of its attempt)"
    return FormatError(f"{error.message}; {fact}", error.remedy)


def _step(name: str, declared: Mapping[str, Any], work: str) -> Step:
    """Import the module that defines the step, and only that, and make the step without arguments.

    ``modules`` are those that make classes known which its arguments name.
    """
    cls = _class(declared["module"], declared["qualname"], declared["type"])
    if declared["version"] != cls.VERSION:
        raise ConfigurationError(
            f"step {name!r}: VERSION is {cls.VERSION!r} here, but was "
            f"{declared['version']!r} when the step was described",
            "let VERSION not depend on where the module is imported",
        )
    for module in declared.get("modules", ()):
        __import__(module)
    step = cls(step_name=name, step_format=declared["format"], step_unique_id_override=declared["id"])
    step._stage = Stage(name, work)
    return step


def _class(module: str, qualname: str, type_name: str) -> type[Step]:
    # Not importlib.import_module: its frames would stand in the traceback of a module that does not import.
    __import__(module)
    found: Any = sys.modules[module]
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Step):
        return found
    # A class made inside a function is reached through its registered name only.
    made = Step.by_name(type_name)
    if not isinstance(made, type):
        raise ConfigurationError(f"step type {type_name!r}: is not a class", "register the class itself")
    return made


class Inputs:
    """Gives the results of dependencies, each loaded, or computed inside this step, when first asked for."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self._places: Mapping[str, str] = job["inputs"]
        # Classes that a result names are looked for in what the step's own package has.
        self._modules = (job["step"]["module"].partition(".")[0],)
        self._loaded: dict[str, Any] = {}
        self._inline: Any = None
        if job.get("inline"):
            from dispatch.runtime.inline import Inline

            places = os.path.join(job["work"], ".inside")
            self._inline = Inline(job, lambda name, its: _step(name, its, os.path.join(places, name)), self)

    def __call__(self, reference: Any) -> Any:
        """Return the result that ``reference`` means, or the item of it that its key names."""
        name = reference.name
        value = self._loaded[name] if name in self._loaded else self._result(name)
        if reference.key is None:
            return value
        try:
            return value[reference.key]
        except (LookupError, TypeError) as error:
            raise ConfigurationError(
                f"the result of step {name!r}, a {type(value).__name__}, has no item {reference.key!r}",
                "mend `key:` in the reference",
            ) from error

    def _result(self, name: str) -> Any:
        if self._inline is not None and name in self._inline:
            value = self._inline(name)
        else:
            # The client decided what is trusted before it mounted this; in here there is no one to ask.
            value = read_result(self._places[name], trust_pickle=True, modules=self._modules)
        # An iterator is used up by the first who gets it: the next is given one of its own.
        if not hasattr(value, "__next__"):
            self._loaded[name] = value
        return value


def _leave(
    job: Mapping[str, Any], started: float, verdict: Verdict, stop: Stop, secrets: Sequence[str]
) -> NoReturn:
    """End the process: exit handlers, flush, packing, outcome, in this order."""
    _run_exit_handlers()
    flush()
    if job.get("packs"):
        verdict = _packed(job["output"], verdict, secrets)
    # From here on the verdict stands, whatever is asked.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if stop.asked:
        verdict = Verdict(OutcomeState.CANCELLED, CANCELLED)
    try:
        outcome.write(job["output"], verdict.state, started, verdict.exit_code, verdict.exception)
    except OSError as error:
        _tell(f"dispatch: the outcome cannot be written: {error}\n")
        os._exit(FAILED)
    os._exit(_exit_code(verdict))


def _packed(output: str, verdict: Verdict, secrets: Sequence[str]) -> Verdict:
    """Have what is captured of the output be what will be looked for there. Being stopped is seen later."""
    from dispatch.runtime import packing

    completed = verdict.state is OutcomeState.COMPLETED
    try:
        packing.settle(output, completed)
    except BaseException as error:
        # What is left of a step without a result is a help to the next attempt, and no more.
        if completed and not isinstance(error, Cancelled):
            recorded = failure.record(error, secrets)
            _tell(recorded["traceback"])
            return Verdict(OutcomeState.FAILED, FAILED, recorded)
    return verdict


def _exit_code(verdict: Verdict) -> int:
    """The process's own code: a step's ``sys.exit(0)`` must not look like success."""
    if verdict.state is OutcomeState.FAILED:
        return FAILED
    return verdict.exit_code


def _leave_fork(error: BaseException | None) -> NoReturn:
    """End a process that the step forked and that came back up to here: the outcome is not its to write."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        code = FAILED
        _tell(failure.record(error)["traceback"])
    flush()
    os._exit(code & 0xFF)


def _run_exit_handlers() -> None:
    try:
        atexit._run_exitfuncs()
    except BaseException as error:
        # As in any Python, a handler's failure is told, and changes nothing.
        _tell(failure.record(error)["traceback"])


def flush() -> None:
    """Flush standard output and error, as far as the step left them usable."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            # The step may have closed it, or put anything in its place.
            continue


def _tell(text: str) -> None:
    """Write to the container's stderr itself, whatever the step did to ``sys.stderr``."""
    flush()
    rest = text.encode("utf-8", "backslashreplace")
    try:
        while rest:
            rest = rest[os.write(2, rest) :]
    except OSError:
        return
