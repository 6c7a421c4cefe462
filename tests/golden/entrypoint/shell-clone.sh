#!/bin/sh
# shellcheck disable=SC2016,SC2317  # values stay as they are; what a trap calls is reached
# Made by dispatch for one job. Its values are the assignments that follow; the rest never changes.
# All names carry a prefix: assigning to one that the environment holds would change it for the step.
dispatch_workdir='/src'
dispatch_output='/dispatch/output'
dispatch_clone_place='/src'
dispatch_clone_url='https://example.org/team/repo.git'
dispatch_clone_commit='0123456789abcdef0123456789abcdef01234567'
dispatch_clone_format=''
# Empty where the commit's own name is all that leads to it.
dispatch_clone_ref='refs/heads/main'
dispatch_clone_secrets='/dispatch/secrets'
dispatch_clone_token='TOKEN'
dispatch_clone_site='https://example.org'
dispatch_clone_user='oauth2'
dispatch_clone_login='https://oauth2@example.org'
dispatch_clone_ssh=''
dispatch_clone_key=''
# Those that the step itself does not name.
dispatch_clone_drop=''
dispatch_command='make table'

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
dispatch_clone=${TMPDIR:-/tmp}/dispatch-clone
dispatch_key=
mkdir -p -- "$dispatch_clone" || refuse 66 "there is no place for temporary files in ${TMPDIR:-/tmp}"
command -v git >/dev/null \
    || refuse 66 "the image has no git, which 'source: clone' needs: add git to the image, or set 'source: export'"

# fetched: git in the source, asking nobody, with a home of its own, so that nothing of this is the step's. Waited
# for, not called: TERM is heard only between commands.
fetched() {
    (
        unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES \
            GIT_NAMESPACE GIT_CONFIG GIT_CONFIG_GLOBAL GIT_TEMPLATE_DIR GIT_TRACE GIT_TRACE_CURL GIT_CURL_VERBOSE \
            GIT_TRACE_REDACT GIT_SSH_COMMAND SSH_ASKPASS XDG_CONFIG_HOME
        cd -- "$dispatch_clone_place" || exit 1
        exec env HOME="$dispatch_clone" LC_ALL=C GIT_TERMINAL_PROMPT=0 \
            GIT_ASKPASS="$dispatch_clone/ask" GIT_SSH="$dispatch_clone/ssh" GIT_SSH_VARIANT=ssh \
            dispatch_site="$dispatch_clone_site" dispatch_user="$dispatch_clone_user" \
            dispatch_login="$dispatch_clone_login" dispatch_token="$dispatch_token" dispatch_key="$dispatch_key" \
            git "$@"
    ) &
    wait $!
}

# No program of the repository's runs: no hook, no filter; but git-lfs where the image has it.
cat >"$dispatch_clone/.gitconfig" <<'END'
[core]
    hooksPath = /dev/null
    fsmonitor = false
[safe]
    directory = *
[credential]
    helper =
[advice]
    detachedHead = false
[protocol "ext"]
    allow = never
[http]
    lowSpeedLimit = 1
    lowSpeedTime = 120
END
if command -v git-lfs >/dev/null; then
    cat >>"$dispatch_clone/.gitconfig" <<'END'
[filter "lfs"]
    smudge = git-lfs smudge -- %f
    process = git-lfs filter-process
    required = true
END
else
    cat >>"$dispatch_clone/.gitconfig" <<'END'
[filter "lfs"]
    clean =
    smudge =
    process =
    required = false
END
fi

# The token goes to its own site alone, from its file to git's pipe. Without one, the answer is none.
cat >"$dispatch_clone/ask" <<'END'
#!/bin/sh
[ -n "$dispatch_token" ] || exit 1
case $1 in
    "Username for "?"$dispatch_site"[\'\"/]*) printf '%s\n' "$dispatch_user" ;;
    "Password for "?"$dispatch_login"[\'\"/]*) cat "$dispatch_token" ;;
    *) exit 1 ;;
esac
END
cat >"$dispatch_clone/ssh" <<'END'
#!/bin/sh
[ -z "$dispatch_key" ] || set -- -o IdentitiesOnly=yes -i "$dispatch_key" "$@"
exec ssh -o BatchMode=yes -o ConnectTimeout=30 -o StrictHostKeyChecking=accept-new \
    -o "UserKnownHostsFile=\"$HOME/known_hosts\"" "$@"
END
chmod 700 "$dispatch_clone/ask" "$dispatch_clone/ssh"
dispatch_token=
if [ -n "$dispatch_clone_token" ]; then
    dispatch_token=$dispatch_clone_secrets/$dispatch_clone_token
    [ -r "$dispatch_token" ] || refuse 66 "the secret $dispatch_clone_token, which is the clone's token, did not come"
fi
if [ -n "$dispatch_clone_ssh" ]; then
    command -v ssh >/dev/null \
        || refuse 66 "the image has no ssh, which $dispatch_clone_url needs: add openssh-client, or use https"
fi
if [ -n "$dispatch_clone_key" ]; then
    [ -r "$dispatch_clone_secrets/$dispatch_clone_key" ] || refuse 66 "the secret $dispatch_clone_key did not come"
    # In memory, and as ssh wants it: nobody else's to read, and with a newline at its end.
    dispatch_key=/dev/shm/dispatch-clone-key
    (umask 077 && cat "$dispatch_clone_secrets/$dispatch_clone_key" >"$dispatch_key" && echo >>"$dispatch_key")
fi

{ fetched init --quiet --template= ${dispatch_clone_format:+"--object-format=$dispatch_clone_format"} . \
    && fetched remote add origin "$dispatch_clone_url"; } || refuse 66 "git cannot use $dispatch_clone_place"
say "cloning $dispatch_clone_url at $dispatch_clone_commit"
if ! fetched fetch --quiet --no-tags --depth 1 origin "$dispatch_clone_commit"; then
    [ -n "$dispatch_clone_ref" ] || refuse 66 "$dispatch_clone_url does not give the commit $dispatch_clone_commit"
    say "the commit does not come by its name: fetching $dispatch_clone_ref"
    fetched fetch --quiet --no-tags origin "$dispatch_clone_ref" \
        || refuse 66 "$dispatch_clone_url does not give $dispatch_clone_ref"
fi
fetched checkout --quiet --force --detach "$dispatch_clone_commit" \
    || refuse 66 "$dispatch_clone_url does not hold the commit $dispatch_clone_commit any more, or it cannot be written"
if [ -f "$dispatch_clone_place/.gitmodules" ]; then
    fetched submodule --quiet update --init --recursive --depth 1 \
        || fetched submodule --quiet update --init --recursive \
        || refuse 66 "the submodules of $dispatch_clone_url cannot be fetched"
fi
[ -z "$dispatch_key" ] || rm -f -- "$dispatch_key"
for dispatch_name in $dispatch_clone_drop; do
    rm -f -- "$dispatch_clone_secrets/$dispatch_name" || :
done
rm -rf -- "$dispatch_clone"
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
