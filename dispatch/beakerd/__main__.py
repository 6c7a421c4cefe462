"""The process: ``python -m dispatch.beakerd --state DIRECTORY``; ends with SIGTERM or SIGINT.

Owns the command line, and what whoever started it hears: one JSON object on stdout, ``{"ready": true}`` once
it answers, else ``{"error": …, "remedy": …, "code": …}``; everything after that goes to the log. With
``--check FILE`` a configuration is read, with ``--show FILE`` it is written with comments (the default one,
where there is no such file), and nothing else happens.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dispatch._docker.address import Address
from dispatch.beakerd.config import Config
from dispatch.beakerd.layout import Layout, write_private
from dispatch.beakerd.process import VERSION
from dispatch.beakerd.server import Server
from dispatch.beakerd.serverlog import ServerLog
from dispatch.errors import ConfigurationError, DispatchError

# After this a server that is told to end does, whatever its threads do: all that was promised is committed.
END_LIMIT = 10.0


def main() -> int:
    """Serve until told to end; 2 for a configuration that cannot be, 3 for anything else that cannot."""
    options = _parser().parse_args()
    try:
        if options.check is not None:
            _read(options.check)
            return _tell({"ready": True})
        if options.show is not None:
            return _tell({"text": _text(options.show)})
        return _serve(options)
    except DispatchError as error:
        code = 2 if isinstance(error, ConfigurationError) else 3
        _tell({"error": error.message, "remedy": error.remedy, "code": code})
        return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dispatch.beakerd")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--state", type=Path, help="the directory in which all is kept")
    what.add_argument("--check", type=Path, help="read this configuration, and say what is wrong with it")
    what.add_argument("--show", type=Path, help="write this configuration, or the default one, with comments")
    parser.add_argument("--config", type=Path, help="a configuration, which is kept from now on")
    parser.add_argument("--engine", default="unix:///var/run/docker.sock")
    parser.add_argument("--control", action="store_true", help="open the endpoint for faults")
    parser.add_argument("--foreground", action="store_true", help="say everything on stderr, too")
    return parser


def _serve(options: argparse.Namespace) -> int:
    # Not an Event: a signal that comes while this thread enters its wait would find its lock taken, for ever.
    told, teller = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(teller, b"."))
    layout = Layout(options.state.absolute())
    layout.make()
    config = with_images(_configuration(layout, options.config), layout.images)
    say = ServerLog(layout.log, _now, adopt_stderr=not options.foreground)
    logging.basicConfig(handlers=[_Handler(say)], level=logging.WARNING, force=True)
    server = Server(
        replace(config, control=config.control or options.control),
        layout,
        Address(options.engine),
        time.time_ns,
        os.urandom,
        say,
    )
    try:
        endpoint = server.start()
    except DispatchError as error:
        say(f"it cannot start: {error.message}")
        raise
    where = f"gRPC {endpoint.rpc}, REST {endpoint.rest}, for jobs {endpoint.bridge or 'nowhere'}"
    say(f"started: dispatch {VERSION}, process {os.getpid()}, {where}")
    _tell({"ready": True})
    os.read(told, 1)
    threading.Thread(target=_end_anyhow, args=(say,), daemon=True).start()
    server.stop()
    say("ended")
    # Not through the interpreter's own end, which waits for every thread of every pool.
    os._exit(0)


def _configuration(layout: Layout, given: Path | None) -> Config:
    """The configuration that is given, and kept; else the one that was kept; else the default."""
    if given is not None:
        config = _read(given)
        write_private(layout.config, given.read_bytes())
        return config
    return _read(layout.config) if layout.config.exists() else Config()


def with_images(config: Config, path: Path) -> Config:
    """Add the images that were made for this server; those that the configuration names itself win."""
    try:
        made = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return config
    known = {str(name): str(reference) for name, reference in made.items()}
    return replace(config, images={**known, **config.images})


def _read(path: Path) -> Config:
    from dispatch.beakerd.config_file import read_config

    return read_config(path)


def _text(path: Path) -> str:
    from dispatch.beakerd.config_text import dump

    return dump(_read(path) if path.exists() else Config())


def _tell(document: dict[str, object]) -> int:
    """Say it to whoever started us, who may be gone; from then on nobody listens."""
    try:
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)
    except OSError:
        pass
    return 0


def _end_anyhow(say: Callable[[str], None]) -> None:
    time.sleep(END_LIMIT)
    say(f"ended: threads were at work still after {END_LIMIT:g} s")
    os._exit(0)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class _Handler(logging.Handler):
    """What libraries log, as lines of the server's."""

    def __init__(self, say: Callable[[str], None]):
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self._say(f"{record.name}: {self.format(record)}")


if __name__ == "__main__":
    sys.exit(main())
