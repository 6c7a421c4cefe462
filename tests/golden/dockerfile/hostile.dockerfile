# Made by dispatch: a base, packages of its distribution, and commands.
ARG BASE
FROM ${BASE}
ARG DISPATCH_ENV_0
ENV A=${DISPATCH_ENV_0}
ARG DISPATCH_ENV_1
ENV B=${DISPATCH_ENV_1}
USER root
RUN ["/bin/sh", "-ec", "export DEBIAN_FRONTEND=noninteractive; apt-get update -q; apt-get install -qy --no-install-recommends -- \"$@\"; rm -rf /var/lib/apt/lists/*", "apt", "g++"]
RUN ["/bin/sh", "-ec", "it's \"$HOME\" `id`\n${PATH} \\ *;#\u00e9\\"]
ENTRYPOINT []
ARG DISPATCH_USER
USER ${DISPATCH_USER}
