"""The gRPC server: every method of the API that has a function, behind authentication and refusals.

Owns transport, tokens in metadata, and what an error becomes. A bug is INTERNAL and said in the server's log
with its traceback; what the caller did wrong is never INTERNAL.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from beaker import beaker_pb2 as pb2
from google.protobuf.message_factory import GetMessageClass

from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import Kind, Problem
from dispatch.beakerd.rpc.sending import deliver

SERVICE = "allenai.beaker.Beaker"
MESSAGE_LIMIT = 64 * 1024 * 1024
# A followed log holds a thread for as long as it is followed.
THREADS = 256

Method = Callable[[Backend, Principal, Any], Any]
# Yields serialized messages, as many at once as there are. The last argument says whether the caller is still
# there: to be asked by what waits between messages.
Stream = Callable[[Backend, Principal, Any, Callable[[], bool]], Iterator[Sequence[bytes]]]
Gate = Callable[[str], None]


def open_gate(_method: str) -> None:
    """Let every call in."""


class RpcServer:
    """The server. :meth:`start` it on addresses; ``gate`` is called with each method's name before it runs
    and may raise (see ``faults``).
    """

    def __init__(
        self, backend: Backend, methods: Mapping[str, Method], streams: Mapping[str, Stream], gate: Gate
    ):
        self._backend = backend
        self._methods = methods
        self._streams = streams
        self._gate = gate
        self._server: grpc.Server | None = None

    def start(self, addresses: list[str], key: bytes, chain: bytes) -> list[int]:
        """Listen with TLS, and return the ports.

        :raises RuntimeError: when an address cannot be had
        """
        server = grpc.server(
            ThreadPoolExecutor(THREADS, thread_name_prefix="rpc"),
            options=[
                ("grpc.max_receive_message_length", MESSAGE_LIMIT),
                ("grpc.max_send_message_length", MESSAGE_LIMIT),
                ("grpc.so_reuseport", 0),
            ],
        )
        server.add_generic_rpc_handlers([self._handlers()])
        credentials = grpc.ssl_server_credentials([(key, chain)])
        ports = [server.add_secure_port(address, credentials) for address in addresses]
        server.start()
        self._server = server
        return ports

    def stop(self, grace: float) -> None:
        """Take no more calls, and end those that are open after ``grace`` seconds."""
        if self._server is not None:
            self._server.stop(grace).wait()

    def _handlers(self) -> grpc.GenericRpcHandler:
        service = pb2.DESCRIPTOR.services_by_name["Beaker"]
        handlers: dict[str, grpc.RpcMethodHandler] = {}
        for method in service.methods:
            read = GetMessageClass(method.input_type).FromString
            if method.name in self._methods:
                handlers[method.name] = grpc.unary_unary_rpc_method_handler(
                    self._unary(method.name, self._methods[method.name]), read, _write
                )
            elif method.name in self._streams:
                handlers[method.name] = grpc.unary_stream_rpc_method_handler(
                    self._stream(method.name, self._streams[method.name]), read, None
                )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _unary(self, name: str, method: Method) -> Callable[[Any, grpc.ServicerContext], Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                self._gate(name)
                return method(self._backend, self._principal(context), request)
            except Exception as error:
                self._refuse(name, context, error)

        return call

    def _stream(self, name: str, method: Stream) -> Callable[[Any, grpc.ServicerContext], Iterator[bytes]]:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
            try:
                self._gate(name)
                principal = self._principal(context)
                for messages in method(self._backend, principal, request, context.is_active):
                    yield from deliver(context, messages)
            except Exception as error:
                self._refuse(name, context, error)

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
        self._backend.say(f"{name}: {''.join(traceback.format_exception(error))}")
        context.abort(grpc.StatusCode.INTERNAL, f"{name}: the server failed; its log says why")
        raise AssertionError("abort raises")


def _write(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
