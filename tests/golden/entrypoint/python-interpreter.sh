#!/bin/sh
# shellcheck disable=SC2016,SC2317  # values stay as they are; what a trap calls is reached
# Made by dispatch for one job. Its values are the assignments that follow; the rest never changes.
# All names carry a prefix: assigning to one that the environment holds would change it for the step.
dispatch_workdir='/src/sub'
dispatch_output='/dispatch/output'
# Empty: the first of python3 and python on the PATH.
dispatch_interpreter='/opt/my python/bin/python3'
dispatch_runtime='/dispatch/runtime'
dispatch_job='/dispatch/job'

set -eu

dispatch_phase=start
dispatch_started=null

say() {
    printf 'dispatch: %s\n' "$1" >&2
}

enter() {
    dispatch_phase=$1
    say "phase $dispatch_phase"
}

# now: the time as JSON; null where the image has no `date`.
now() {
    if dispatch_stamp=$(date -u +%Y-%m-%dT%H:%M:%SZ 2>/dev/null); then
        printf '"%s"' "$dispatch_stamp"
    else
        printf 'null'
    fi
}

# outcome STATE CODE: written under another name and renamed, so that it is complete or absent. Only fixed words,
# numbers and times go in, so nothing needs the escapes of JSON.
outcome() {
    dispatch_ended=$(now)
    printf '{"contract": 1, "phase": "%s", "state": "%s", "started": %s, "ended": %s, "exit_code": %s, ' \
        "$dispatch_phase" "$1" "$dispatch_started" "$dispatch_ended" "$2" >"$dispatch_output/outcome.json.part"
    printf '"exception": null, "interpreter": null}\n' >>"$dispatch_output/outcome.json.part"
    mv -f "$dispatch_output/outcome.json.part" "$dispatch_output/outcome.json"
}

# refuse CODE MESSAGE: a phase before the step failed.
refuse() {
    say "$2"
    outcome failed "$1" || :
    exit "$1"
}

trap 'outcome cancelled 143 || :; exit 143' TERM

# A step must never wait for somebody to type.
exec </dev/null

enter source
[ -d "$dispatch_workdir" ] || refuse 64 "the working directory $dispatch_workdir is not in the source"
cd -- "$dispatch_workdir" || refuse 64 "the working directory $dispatch_workdir cannot be entered"

if [ -n "${CONDA_PREFIX:-}" ] && [ -d "$CONDA_PREFIX/etc/conda/activate.d" ]; then
    enter environment
    # shellcheck disable=SC2016  # for the other shell
    if dispatch_active=$("$(command -v bash || command -v sh)" -c '
        exec 3>&1 >&2
        dispatch_here=$PWD
        for dispatch_name in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do
            [ ! -f "$dispatch_name" ] || . "$dispatch_name"
        done
        cd -- "$dispatch_here" && unset dispatch_here dispatch_name && exec /bin/sh -c "export -p" >&3
    '); then
        eval "$dispatch_active"
    else
        say "the scripts in $CONDA_PREFIX/etc/conda/activate.d failed: going on without what they set"
    fi
    unset dispatch_active
fi
enter run
for dispatch_directory in "${HOME:-}" "${TMPDIR:-}" "${XDG_CACHE_HOME:-}" "${DISPATCH_OUTPUT_DIR:-}"; do
    # The builtin is asked first: it costs nothing, starting mkdir does.
    [ -z "$dispatch_directory" ] || [ -d "$dispatch_directory" ] || mkdir -p -- "$dispatch_directory"
done

if [ -z "$dispatch_interpreter" ]; then
    if command -v python3 >/dev/null; then
        dispatch_interpreter=python3
    elif command -v python >/dev/null; then
        dispatch_interpreter=python
    else
        refuse 65 "the image has no Python: neither python3 nor python is on the PATH"
    fi
elif ! command -v "$dispatch_interpreter" >/dev/null; then
    refuse 65 "the image has no Python at $dispatch_interpreter"
fi
# Whether it is new enough is asked by main.py: starting it twice would cost every step another start of Python.
# Replaced, not waited for: the step's own process must receive TERM.
exec "$dispatch_interpreter" "$dispatch_runtime/main.py" run "$dispatch_job/job.json"
