#!/bin/sh
# Any other runner: images are fetched from the registry that DISPATCH_REGISTRY names, and none is built.
set -eu
dispatch run experiment.yml
