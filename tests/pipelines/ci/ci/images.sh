#!/bin/sh
# One runner: the locks fit their inputs, and the registry has every image; what it lacks is built and pushed.
set -eu
dispatch lock --check experiment.yml
dispatch build --push "$DISPATCH_REGISTRY" experiment.yml
