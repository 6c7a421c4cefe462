# Made by dispatch: a base, packages of its distribution, and commands.
ARG BASE
FROM ${BASE}
USER root
RUN ["/bin/sh", "-ec", "python -m nltk.downloader punkt"]
RUN ["/bin/sh", "-ec", "make\nmake install"]
ENTRYPOINT []
ARG DISPATCH_USER
USER ${DISPATCH_USER}
