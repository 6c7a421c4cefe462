#!/bin/sh
# shellcheck disable=SC2016,SC2317  # values stay as they are; what a trap calls is reached
# Made by dispatch for one job. Its values are the assignments that follow; the rest never changes.
# All names carry a prefix: assigning to one that the environment holds would change it for the step.
dispatch_workdir='/src/it'\''s "$HOME" `id`
$(id) \ *;#é'
dispatch_output='/dispatch/output'
# An environment of the image, or one to be made under that name; empty where the source decides.
dispatch_venv='it'\''s "$HOME" `id`
$(id) \ *;#é'
dispatch_install='it'\''s "$HOME" `id`
$(id) \ *;#é'
# The minor version that a new environment is to have; empty for the image's own.
dispatch_version='it'\''s "$HOME" `id`
$(id) \ *;#é'
dispatch_venv_place='it'\''s "$HOME" `id`
$(id) \ *;#é'
dispatch_root='it'\''s "$HOME" `id`
$(id) \ *;#é'
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
[ -d "$dispatch_workdir" ] || refuse 64 "the working directory $dispatch_workdir is not in the source"
cd -- "$dispatch_workdir" || refuse 64 "the working directory $dispatch_workdir cannot be entered"

enter environment
dispatch_python=
dispatch_active=

# waited COMMAND...: it asks nobody, and says nothing of newer versions of itself. Waited for, not called: TERM is
# heard only between commands.
waited() {
    env CONDA_ALWAYS_YES=true CONDA_NOTIFY_OUTDATED_CONDA=false PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
        PIP_PROGRESS_BAR=off PIP_ROOT_USER_ACTION=ignore UV_NO_PROGRESS=1 "$@" &
    wait $!
}

# is_project DIRECTORY: a pyproject.toml may hold the settings of tools alone.
is_project() {
    [ -f "$1/setup.py" ] \
        || { [ -f "$1/pyproject.toml" ] && grep -Eq '^[[:space:]]*\[(project|build-system)\]' "$1/pyproject.toml"; }
}

# conda_file DIRECTORY: the file that declares an environment for conda, or nothing.
conda_file() {
    for dispatch_name in environment.yml environment.yaml; do
        [ ! -f "$1/$dispatch_name" ] || printf '%s/%s' "$1" "$dispatch_name"
    done
}

declares() {
    [ -f "$1/requirements.txt" ] || is_project "$1" || [ -n "$(conda_file "$1")" ]
}

# The repository's root declares; where it says nothing, the working directory may.
dispatch_project=$dispatch_root
if ! declares "$dispatch_root" && declares "$dispatch_workdir"; then
    dispatch_project=$dispatch_workdir
fi
dispatch_file=$(conda_file "$dispatch_project")

# Packages that activate, and commands to install, are mostly written for bash.
dispatch_shell=$(command -v bash || command -v sh)
dispatch_conda=
for dispatch_name in "${CONDA_EXE:-}" "$(command -v conda || :)" /opt/conda/bin/conda /opt/miniconda3/bin/conda \
    /root/miniconda3/bin/conda; do
    if [ -n "$dispatch_name" ] && [ -x "$dispatch_name" ]; then
        dispatch_conda=$dispatch_name
        break
    fi
done
# The image's own Python.
dispatch_own=$(command -v python3 || command -v python || :)
if [ -z "$dispatch_own" ] && [ -n "$dispatch_conda" ]; then
    dispatch_own=$("$dispatch_conda" info --base)/bin/python
fi

minor() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

# activate ENVIRONMENT: in a shell of its own, so that what packages' scripts do there changes variables alone.
activate() {
    # shellcheck disable=SC2016  # for the other shell
    dispatch_active=$("$dispatch_shell" -c '
        set +eu
        [ -z "${BASH_VERSION:-}" ] || set -o posix
        { eval "$("$1" shell.posix hook)" && conda activate "$2"; } >&2 && export -p
    ' sh "$dispatch_conda" "$1") || return 1
    eval "$dispatch_active"
    dispatch_active=$1
    dispatch_python=$CONDA_PREFIX/bin/python
}

# create OPTION VALUE: an environment of conda, by name (-n) or place (-p).
create() {
    if [ -n "$dispatch_file" ]; then
        say "making the environment of $dispatch_file"
        waited "$dispatch_conda" env create "$1" "$2" -f "$dispatch_file" \
            || refuse 67 "conda cannot make the environment of $dispatch_file"
    else
        [ -n "$dispatch_version" ] || dispatch_version=$(minor "$dispatch_own") \
            || refuse 67 "the image has no Python to take the version from"
        say "making an environment with Python $dispatch_version"
        waited "$dispatch_conda" create -y -q "$1" "$2" "python=$dispatch_version" pip \
            || refuse 67 "conda cannot make an environment with Python $dispatch_version"
    fi
}

# make_venv: without conda's packages, which is much faster.
make_venv() {
    if [ -n "$dispatch_version" ] && [ "$dispatch_version" != "$(minor "$dispatch_own")" ]; then
        if command -v uv >/dev/null && waited uv venv --quiet --seed --python "$dispatch_version" "$dispatch_venv_place"; then
            return 0
        fi
        say "there is no Python $dispatch_version in the image: using its $(minor "$dispatch_own")"
    fi
    waited "$dispatch_own" -m venv "$dispatch_venv_place" && return 0
    rm -rf -- "$dispatch_venv_place"
    command -v uv >/dev/null && waited uv venv --quiet --seed --python "$dispatch_own" "$dispatch_venv_place"
}

use_venv() {
    say "making an environment with the image's own Python"
    make_venv || refuse 67 "$dispatch_own cannot make an environment: add its package venv, or uv, to the image"
    export VIRTUAL_ENV="$dispatch_venv_place" PATH="$dispatch_venv_place/bin:$PATH"
    dispatch_python=$dispatch_venv_place/bin/python
}

if [ -n "$dispatch_conda" ] && [ -n "$dispatch_venv" ]; then
    if [ "$dispatch_venv" = base ] || "$dispatch_conda" list -n "$dispatch_venv" >/dev/null 2>&1; then
        say "using the image's environment $dispatch_venv"
        if [ -n "$dispatch_file" ]; then
            waited "$dispatch_conda" env update -n "$dispatch_venv" -f "$dispatch_file" \
                || refuse 67 "conda cannot bring the environment $dispatch_venv up to $dispatch_file"
        fi
    else
        create -n "$dispatch_venv"
    fi
    activate "$dispatch_venv" || refuse 67 "the environment $dispatch_venv cannot be activated"
elif [ -n "$dispatch_venv" ] && [ "$dispatch_venv" != base ] && [ -n "$dispatch_own" ]; then
    say "the image has no conda, so no environment $dispatch_venv"
    use_venv
elif [ -n "$dispatch_file" ] && [ -n "$dispatch_conda" ] && [ -z "$dispatch_venv" ]; then
    create -p "$dispatch_venv_place"
    activate "$dispatch_venv_place" || refuse 67 "the environment of $dispatch_file cannot be activated"
elif [ -n "$dispatch_file" ]; then
    refuse 67 "the image has no conda for $dispatch_file: use one with conda, or declare requirements.txt instead"
elif [ -z "$dispatch_own" ]; then
    # A command may need none; a Python step says so itself.
    say "the image has no Python to make an environment with"
elif [ "$dispatch_venv" = base ]; then
    say "using the image's own Python"
    dispatch_python=$dispatch_own
    export PIP_BREAK_SYSTEM_PACKAGES=1 UV_BREAK_SYSTEM_PACKAGES=1
elif [ -n "$dispatch_install" ] || declares "$dispatch_project"; then
    if [ -n "$dispatch_conda" ] && [ -n "$dispatch_version" ] && [ "$dispatch_version" != "$(minor "$dispatch_own")" ]; then
        create -p "$dispatch_venv_place"
        activate "$dispatch_venv_place" || refuse 67 "the environment cannot be activated"
    else
        use_venv
    fi
else
    say "nothing to install is declared: using the image's own Python"
    dispatch_python=$dispatch_own
fi

enter install
# uv knows nothing of what pip is told by variables and files: where something is, pip installs.
uv_will_do() {
    command -v uv >/dev/null || return 1
    [ -z "${PIP_INDEX_URL:-}${PIP_EXTRA_INDEX_URL:-}${PIP_NO_INDEX:-}${PIP_FIND_LINKS:-}${PIP_CONSTRAINT:-}" ] \
        && [ -z "${PIP_CONFIG_FILE:-}${PIP_TRUSTED_HOST:-}${PIP_CERT:-}${PIP_PRE:-}" ] || return 1
    for dispatch_name in /etc/pip.conf "${HOME:-}/.config/pip/pip.conf" "${HOME:-}/.pip/pip.conf" \
        "${CONDA_PREFIX:-}/pip.conf"; do
        [ ! -f "$dispatch_name" ] || return 1
    done
}

install() {
    if uv_will_do; then
        say "uv pip install $*"
        waited uv pip install --python "$dispatch_python" --compile-bytecode "$@" && return 0
    fi
    say "pip install $*"
    waited "$dispatch_python" -m pip install "$@"
}

cd -- "$dispatch_project"
if [ -n "$dispatch_install" ]; then
    say "$dispatch_install"
    waited "$dispatch_shell" -c "$dispatch_install" || refuse 68 "the command to install failed: $dispatch_install"
elif [ -n "$dispatch_python" ]; then
    set --
    ! is_project "$dispatch_project" || set -- .
    [ ! -f requirements.txt ] || set -- "$@" -r requirements.txt
    [ $# -eq 0 ] || install "$@" || refuse 68 "the packages that $dispatch_project declares cannot be installed: $*"
fi
cd -- "$dispatch_workdir"
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

# pack NAME: an archive in the place of a directory of the output, under another name until it is whole.
pack() {
    tar -cf "$dispatch_output/$1.tar.part" -C "$dispatch_output/$1" . \
        && mv -f -- "$dispatch_output/$1.tar.part" "$dispatch_output/$1.tar" && rm -rf -- "${dispatch_output:?}/$1"
}

# plain NAME: whether a directory comes through as files. What captures it keeps no links, no empty files or
# directories, no rights to execute, nor every name; and many small files cost a request each.
plain() {
    (
        cd -- "$dispatch_output/$1" && command -v find >/dev/null || exit 1
        [ -z "$(find . ! -type d ! -type f -o -type f -size 0 -o -type f -perm -100 | head -n 1)" ] || exit 1
        [ -z "$(find . | LC_ALL=C grep '[^]A-Za-z0-9_.+=@,/ -]' | head -n 1)" ] || exit 1
        dispatch_count=$(find . -type f | wc -l)
        [ "$dispatch_count" -gt 0 ] || exit 1
        [ "$dispatch_count" -le 16 ] || [ "$(du -sk . | cut -f 1)" -ge $((dispatch_count * 1024)) ] || exit 1
        [ -z "$(find . -type d -exec sh -c '[ -z "$(ls -A "$1")" ]' sh {} \; -print | head -n 1)" ]
    )
}

# strange: a path of the result that can be in none: no file, directory or link, or a link that leads out.
strange() {
    (
        cd -- "$dispatch_output/result" && command -v find >/dev/null || exit 0
        find . ! -type d ! -type f ! -type l
        find . -type l -exec sh -c '
            for each; do
                case $(readlink "$each") in /*) printf "%s\n" "$each" ;; esac
                case $(readlink -f "$each")/ in "$(pwd -P)"/*) ;; *) printf "%s\n" "$each" ;; esac
            done' sh {} +
    )
}

# settle: leave what is to be captured; with a result, no work.
settle() {
    trap 'outcome cancelled 143 || :; exit 143' TERM
    if [ "$1" != completed ]; then
        [ ! -d "$dispatch_output/work" ] || plain work || pack work || say "the work directory cannot be packed"
        return 0
    fi
    rm -rf -- "${dispatch_output:?}/work"
    if [ ! -d "$dispatch_output/result" ] || [ -h "$dispatch_output/result" ]; then
        refuse 69 "the result's directory is gone: leave the result in the directory that is there for it"
    fi
    dispatch_found=$(strange | head -n 1)
    [ -z "$dispatch_found" ] || refuse 69 "result file $dispatch_found: leave regular files, and links inside of the result"
    plain result || pack result || refuse 69 "the result cannot be packed, which takes tar and room on the disk"
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
    settle cancelled
    outcome cancelled "$dispatch_status"
    exit 143
fi
# An empty output directory is a result too: a step may be wanted for its check alone, and what it must leave
# behind is for the steps that read it to say.
if [ "$dispatch_status" -eq 0 ]; then
    dispatch_phase=result
    settle completed
    dispatch_phase=run
    outcome completed 0
    exit 0
fi
settle failed
outcome failed "$dispatch_status"
# Above 128 the command was killed, and the number is what tells the engine's reason (137: out of memory).
[ "$dispatch_status" -gt 128 ] || dispatch_status=1
exit "$dispatch_status"
