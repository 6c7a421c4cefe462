"""The gRPC server: every method of the API that has a function, behind authentication and refusals.

Owns transport, tokens in metadata, and what an error becomes. A bug is INTERNAL and said in the server's log
with its traceback; what the caller did wrong is never INTERNAL.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from beaker import beaker_pb2 as pb2
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import Kind, Problem, invalid
from dispatch.beakerd.rpc.sending import deliver

SERVICE = "allenai.beaker.Beaker"
MESSAGE_LIMIT = 64 * 1024 * 1024
# A followed log holds a thread for as long as it is followed; some are left for everything else.
THREADS = 256
OPEN_STREAMS = 224
_TIMES = ("google.protobuf.Timestamp", "google.protobuf.Duration")

Method = Callable[[Backend, Principal, Any], Any]
# Yields serialized messages, as many at once as there are. The last argument says whether the caller is still
# there: to be asked by what waits between messages.
Stream = Callable[[Backend, Principal, Any, Callable[[], bool]], Iterator[Sequence[bytes]]]


class RpcServer:
    """The server. :meth:`start` it on addresses; ``interceptors`` are around every call (see ``faulty``)."""

    def __init__(
        self,
        backend: Backend,
        methods: Mapping[str, Method],
        streams: Mapping[str, Stream],
        interceptors: Sequence[grpc.ServerInterceptor] = (),
    ):
        self._backend = backend
        self._methods = methods
        self._streams = streams
        self._interceptors = tuple(interceptors)
        self._open = threading.Semaphore(OPEN_STREAMS)
        self._server: grpc.Server | None = None

    def start(self, bind: Callable[[Callable[[str], int]], None], key: bytes, chain: bytes) -> None:
        """Listen with TLS, on the addresses for which ``bind`` calls its argument.

        That returns the port, and raises RuntimeError where the address cannot be had.
        """
        server = grpc.server(
            ThreadPoolExecutor(THREADS, thread_name_prefix="rpc"),
            interceptors=self._interceptors,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_LIMIT),
                ("grpc.max_send_message_length", MESSAGE_LIMIT),
                ("grpc.so_reuseport", 0),
            ],
        )
        server.add_generic_rpc_handlers([self._handlers()])
        credentials = grpc.ssl_server_credentials([(key, chain)])
        bind(lambda address: int(server.add_secure_port(address, credentials)))
        server.start()
        self._server = server

    def stop(self, grace: float) -> None:
        """Take no more calls, and end those that are open after ``grace`` seconds."""
        if self._server is not None:
            self._server.stop(grace).wait()

    def _handlers(self) -> grpc.GenericRpcHandler:
        service = pb2.DESCRIPTOR.services_by_name["Beaker"]
        handlers: dict[str, grpc.RpcMethodHandler] = {}
        for method in service.methods:
            if method.name in self._methods:
                handlers[method.name] = grpc.unary_unary_rpc_method_handler(
                    self._unary(method.name, self._methods[method.name], _reader(method)), None, _write
                )
            elif method.name in self._streams:
                handlers[method.name] = grpc.unary_stream_rpc_method_handler(
                    self._stream(method.name, self._streams[method.name], _reader(method)), None, None
                )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _unary(
        self, name: str, method: Method, read: Callable[[bytes], Any]
    ) -> Callable[[bytes, grpc.ServicerContext], Any]:
        def call(request: bytes, context: grpc.ServicerContext) -> Any:
            try:
                return method(self._backend, self._principal(context), read(request))
            except Exception as error:
                self._refuse(name, context, error)

        return call

    def _stream(
        self, name: str, method: Stream, read: Callable[[bytes], Any]
    ) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
        closing = self._backend.closing

        def call(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            def there() -> bool:
                return not closing.is_set() and bool(context.is_active())

            if not self._open.acquire(blocking=False):
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{OPEN_STREAMS} streams are open already")
            try:
                who = self._principal(context)
                for messages in method(self._backend, who, read(request), there):
                    yield from deliver(context, messages)
                if closing.is_set():
                    # It has not come to its end: public clients go on where they were, with the next server.
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the server ends")
            except Exception as error:
                self._refuse(name, context, error)
            finally:
                self._open.release()

        return call

    def _principal(self, context: grpc.ServicerContext) -> Principal:
        for key, value in context.invocation_metadata():
            if key == "authorization":
                scheme, _, token = str(value).partition(" ")
                if scheme.lower() == "bearer" and token:
                    with self._backend.database.read() as tx:
                        return self._backend.access.principal(tx, token.strip())
        raise Problem(Kind.UNAUTHENTICATED, "the call has no token: metadata `authorization: bearer TOKEN`")

    def _refuse(self, name: str, context: grpc.ServicerContext, error: Exception) -> NoReturn:
        if isinstance(error, Problem):
            context.abort(error.kind.status, error.message)
        if isinstance(error, (OverflowError, UnicodeEncodeError)):
            # What no column can hold: a number beyond 64 bits, half of a character.
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{name}: a value is out of its range")
        if self._backend.closing.is_set():
            # What the call works with may be closed already; public clients ask the next server.
            context.abort(grpc.StatusCode.UNAVAILABLE, "the server ends")
        self._backend.say(f"{name}: {''.join(traceback.format_exception(error))}")
        context.abort(grpc.StatusCode.INTERNAL, f"{name}: the server failed; its log says why")
        raise AssertionError("abort raises")


def _reader(method: Any) -> Callable[[bytes], Any]:
    """Read a method's request here: left to grpc, what cannot be read would be INTERNAL."""
    read = GetMessageClass(method.input_type).FromString

    def decode(data: bytes) -> Any:
        try:
            request = read(data)
        except DecodeError as error:
            raise invalid(f"{method.name}: the request is no {method.input_type.name}") from error
        _check_times(request)
        return request

    return decode


def _check_times(message: Any) -> None:
    """Refuse times and durations that are none, anywhere in a request: whoever converts one relies on it."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for each in (value,) if hasattr(value, "DESCRIPTOR") else value:
            if field.message_type.full_name in _TIMES:
                try:
                    each.ToNanoseconds()
                except ValueError as error:
                    raise invalid(f"{field.name}: {error}") from error
            else:
                _check_times(each)


def _write(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
