#!/bin/sh
# shellcheck disable=SC2016,SC2317  # values stay as they are; what a trap calls is reached
# Made by dispatch for one job. Its values are the assignments that follow; the rest never changes.
# All names carry a prefix: assigning to one that the environment holds would change it for the step.
dispatch_workdir='/src'
dispatch_output='/dispatch/output'
dispatch_command='wc -c "$DISPATCH_INPUT_MODEL"/*'

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

# The command runs behind a shell that waits, so that outcome.json is written however it ends.
dispatch_cancelled=
dispatch_child=
dispatch_group=
# The fifth field of stat is the process group; where there is no /proc, only the command itself is told to stop.
if [ -r "/proc/$$/stat" ]; then
    read -r _ _ _ _ dispatch_group _ <"/proc/$$/stat"
fi

tell() {
    # A shell that waits for a program of its own keeps TERM to itself: the whole group has to hear it. Only when
    # the group is ours, as in every container; otherwise whoever started us would hear it too.
    if [ "$dispatch_group" = "$$" ]; then
        trap '' TERM
        kill -TERM 0
    else
        kill -TERM "$dispatch_child" 2>/dev/null || :
    fi
}

stop() {
    dispatch_cancelled=yes
    # TERM may come before the command's number is known: then it is told as soon as it is.
    [ -z "$dispatch_child" ] || tell
}

dispatch_started=$(now)
trap stop TERM
# Plain `sh -c`, as one would type it: without -e and -u.
sh -c "$dispatch_command" &
dispatch_child=$!
[ -z "$dispatch_cancelled" ] || tell
dispatch_status=0
wait "$dispatch_child" || dispatch_status=$?
# The trap ends `wait` early; the command still has its own end to come to.
while [ -n "$dispatch_cancelled" ] && kill -0 "$dispatch_child" 2>/dev/null; do
    dispatch_status=0
    wait "$dispatch_child" || dispatch_status=$?
done

if [ -n "$dispatch_cancelled" ]; then
    outcome cancelled "$dispatch_status"
    exit 143
fi
# An empty output directory is a result too: a step may be wanted for its check alone, and what it must leave
# behind is for the steps that read it to say.
if [ "$dispatch_status" -eq 0 ]; then
    outcome completed 0
    exit 0
fi
outcome failed "$dispatch_status"
# Above 128 the command was killed, and the number is what tells the engine's reason (137: out of memory).
[ "$dispatch_status" -gt 128 ] || dispatch_status=1
exit "$dispatch_status"
