# Made by dispatch: wheels of packages that come as source, built on the base that they are for.
ARG BASE
FROM ${BASE} AS build
USER root
COPY dispatch-build /dispatch-build
RUN ["env", "SOURCE_DATE_EPOCH=315532800", "PYTHONHASHSEED=0", "LC_ALL=C.UTF-8", "/usr/bin/python3.11", "-E", "-s", "/dispatch-build/build_wheel.py", "/dispatch-build/nltk.json"]
RUN ["env", "SOURCE_DATE_EPOCH=315532800", "PYTHONHASHSEED=0", "LC_ALL=C.UTF-8", "/usr/bin/python3.11", "-E", "-s", "/dispatch-build/build_wheel.py", "/dispatch-build/warp-lm.json"]
FROM scratch
COPY --from=build /dispatch-build/wheels /wheels
