"""What a call takes at least: grpcio alone, with answers made beforehand."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import grpc
from beaker import beaker_pb2 as pb2

from dispatch.beakerd.authority import certificate_for

ANSWERS = {
    "GetUser": pb2.GetUserResponse(user=pb2.User(id="x", name="me")),
    "GetWorkspace": pb2.GetWorkspaceResponse(workspace=pb2.Workspace(id="x", name="ai2/my-workspace")),
    "ResolveWorkspaceName": pb2.ResolveWorkspaceNameResponse(workspace_id="x"),
}


def main(root: Path) -> None:
    """Say where it is, as JSON on one line, and serve until standard input ends."""
    certificate = certificate_for(root, ["localhost"], datetime.now(timezone.utc))
    server = grpc.server(ThreadPoolExecutor(256))
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(lambda _, __, answer=answer: answer.SerializeToString())
        for name, answer in ANSWERS.items()
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("allenai.beaker.Beaker", handlers)])
    credentials = grpc.ssl_server_credentials([(certificate.key, certificate.chain)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    config = root / "config.yml"
    config.write_text(f"user_token: x\nrpc_address: localhost:{port}\ndefault_workspace: ai2/my-workspace\n")
    print(json.dumps({"ca": str(root / "ca.pem"), "config": str(config)}), flush=True)
    sys.stdin.read()
    server.stop(0)


main(Path(sys.argv[1]))
