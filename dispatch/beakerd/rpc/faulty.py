"""Faults in the gRPC server: an interceptor around every method.

Owns how a fault looks to a client of gRPC; which call has one is :mod:`dispatch.beakerd.faults`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc

from dispatch.beakerd.backend import Backend
from dispatch.beakerd.connections import cut_peer
from dispatch.beakerd.faults import RPC, Kind, Strike
from dispatch.beakerd.store.tokens import user_of

_STATUS = {
    Kind.DROP: (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
    Kind.LOSE: (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
    Kind.UNAVAILABLE: (grpc.StatusCode.UNAVAILABLE, "unavailable, as was asked for"),
    Kind.TOO_MANY: (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests, as was asked for"),
    Kind.SERVER_ERROR: (grpc.StatusCode.INTERNAL, "failed, as was asked for"),
    Kind.RESET: (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
}
_DIGEST = "allenai.beaker.DatasetFile.Digest"


class FaultyRpc(grpc.ServerInterceptor):  # type: ignore[misc]
    """Lets calls go wrong as the backend's faults say."""

    def __init__(self, backend: Backend):
        self._backend = backend

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wrap the method that is called; what it is to suffer is asked in the thread that serves it."""
        handler = continuation(details)
        if handler is None or handler.request_streaming:
            return handler
        name = details.method.rpartition("/")[2]
        wrap, make = (
            (self._stream, grpc.unary_stream_rpc_method_handler)
            if handler.response_streaming
            else (self._unary, grpc.unary_unary_rpc_method_handler)
        )
        behaviour = handler.unary_stream if handler.response_streaming else handler.unary_unary
        return make(wrap(name, behaviour), handler.request_deserializer, handler.response_serializer)

    def _unary(self, name: str, behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            strike = self._strike(name, context)
            if strike.kind is None or strike.kind is Kind.WRONG_DIGEST:
                response = behaviour(request, context)
                if strike.kind is Kind.WRONG_DIGEST and not spoil_digests(response):
                    self._backend.faults.missed(strike)
                return response
            self._backend.closing.wait(strike.seconds)
            if strike.kind is Kind.LOSE:
                behaviour(request, context)
            _break(strike.kind, context)

        return call

    def _stream(
        self, name: str, behaviour: Callable[[Any, Any], Iterator[Any]]
    ) -> Callable[[Any, Any], Iterator[Any]]:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            strike = self._strike(name, context)
            if strike.kind is None or strike.kind is Kind.WRONG_DIGEST:
                yield from behaviour(request, context)
                return
            yield from self._until_broken(strike, behaviour, request, context)

        return call

    def _until_broken(
        self,
        strike: Strike,
        behaviour: Callable[[Any, Any], Iterator[Any]],
        request: Any,
        context: grpc.ServicerContext,
    ) -> Iterator[Any]:
        """What comes before the strike; a stream that has ended by then does not count."""
        assert strike.kind is not None
        until = _Until(context, time.monotonic() + strike.seconds)
        timer = threading.Timer(strike.seconds, cut_peer, (context.peer(),))
        timer.daemon = True
        if strike.kind in (Kind.DROP, Kind.LOSE):
            # A stream may be silent: the connection goes at its time, whatever comes.
            timer.start()
        try:
            for message in behaviour(request, until) if strike.seconds else ():
                if until.is_over():
                    break
                yield message
        finally:
            timer.cancel()
        if not until.is_over():
            self._backend.faults.missed(strike)
            return
        _break(strike.kind, context)

    def _strike(self, name: str, context: grpc.ServicerContext) -> Strike:
        strike = self._backend.faults.strike(RPC, name, lambda: self._user(context))
        if strike.latency:
            self._backend.closing.wait(strike.latency)
        return strike

    def _user(self, context: grpc.ServicerContext) -> str | None:
        header = next(
            (str(value) for key, value in context.invocation_metadata() if key == "authorization"), ""
        )
        with self._backend.database.read() as tx:
            return user_of(tx, header.partition(" ")[2].strip())


class _Until:
    """A call's context whose caller seems to go at some time, so that whatever sends messages ends."""

    def __init__(self, context: grpc.ServicerContext, ends: float):
        self._context = context
        self._ends = ends

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def is_over(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._ends

    def is_active(self) -> bool:
        """Whether the caller is there, as far as the stream may know."""
        return not self.is_over() and bool(self._context.is_active())


def spoil_digests(message: Any) -> bool:
    """Change the first byte of every digest of a file in a message; False where there is none."""
    if message.DESCRIPTOR.full_name == _DIGEST:
        message.value = bytes([message.value[0] ^ 0xFF]) + message.value[1:] if message.value else b"\xff"
        return True
    found = False
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        several = value if hasattr(value, "__len__") else [value]
        for each in several:
            found = (hasattr(each, "DESCRIPTOR") and spoil_digests(each)) or found
    return found


def _break(kind: Kind, context: grpc.ServicerContext) -> NoReturn:
    if kind in (Kind.DROP, Kind.LOSE):
        cut_peer(context.peer())
    context.abort(*_STATUS[kind])
    raise AssertionError("abort raises")
