# Made by dispatch: a base, packages of its distribution, and commands.
ARG BASE
FROM ${BASE}
USER root
RUN ["/bin/sh", "-ec", "export DEBIAN_FRONTEND=noninteractive; apt-get update -q; apt-get install -qy --no-install-recommends -- \"$@\"; rm -rf /var/lib/apt/lists/*", "apt", "git", "libc6-dev"]
ENTRYPOINT []
ARG DISPATCH_USER
USER ${DISPATCH_USER}
