"""Many messages on one stream, each for little.

Owns a way past grpcio's own, which hands each message from thread to thread: here the thread that sees one
message gone starts the next, a tenth of the cost. Only grpcio's insides allow that. They are met here and
nowhere else; where they are not what is expected, messages take grpcio's own way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from grpc import _server as _insides
from grpc._cython import cygrpc

# The transport may keep a message until more have come; the last of each delivery goes at once.
_MAY_WAIT, _AT_ONCE = 1, 0
_EXPECTED = ("_SEND_MESSAGE_TOKEN", "_is_rpc_state_active", "_possibly_finish_call")
FAST = all(hasattr(_insides, name) for name in _EXPECTED) and hasattr(cygrpc, "SendMessageOperation")


def deliver(context: Any, messages: Sequence[bytes], fast: bool = FAST) -> Iterable[bytes]:
    """Send messages of a stream, and return those that are left for grpcio to send: none, or all of them.

    Returns when they are gone, or the caller is. Only the thread that answers the call may use it.
    """
    try:
        call, state = context._rpc_event.call, context._state
        fresh = state.initial_metadata_allowed
    except AttributeError:
        return messages
    if not fast:
        return messages
    if fresh:
        try:
            context.send_initial_metadata(())
        except grpc.RpcError:
            return ()
    _Chain(call, state, messages).run()
    return ()


class _Chain:
    """Messages of which each is started when the one before it is gone, by grpcio's own thread."""

    def __init__(self, call: Any, state: Any, messages: Sequence[bytes]):
        self._call = call
        self._state = state
        self._messages = messages
        self._next = 0

    def run(self) -> None:
        state = self._state
        with state.condition:
            if not _insides._is_rpc_state_active(state) or not self._start():
                return
            state.due.add(_insides._SEND_MESSAGE_TOKEN)
            while _insides._SEND_MESSAGE_TOKEN in state.due:
                state.condition.wait()

    def _start(self) -> bool:
        """Start the next message; False where there is none, or none can be sent any more."""
        if self._next == len(self._messages):
            return False
        message = self._messages[self._next]
        self._next += 1
        flag = _AT_ONCE if self._next == len(self._messages) else _MAY_WAIT
        try:
            self._call.start_server_batch((cygrpc.SendMessageOperation(message, flag),), self._gone)
        except Exception:
            # Whatever it is, it must not reach grpcio's thread, which every call needs.
            return False
        return True

    def _gone(self, event: Any) -> Any:
        """A message is gone, or cannot be sent; runs in grpcio's thread, which takes what this returns."""
        state = self._state
        with state.condition:
            if event.success and _insides._is_rpc_state_active(state) and self._start():
                return None, ()
            state.condition.notify_all()
            return _insides._possibly_finish_call(state, _insides._SEND_MESSAGE_TOKEN)
