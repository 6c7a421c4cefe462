#!/bin/sh
# Made by dispatch; the same for all jobs. What the engine could only mount becomes the places that every job has;
# then the job's own entrypoint takes over.
dispatch_root='/dispatch'
dispatch_source='/src'

set -eu

say() {
    printf 'dispatch: %s\n' "$1" >&2
}

refuse() {
    say "$2"
    exit "$1"
}

# A cluster may give each job a token of its own: a step has none that it did not ask for.
[ -n "${DISPATCH_KEEPS_TOKEN-}" ] || unset BEAKER_TOKEN BEAKER_CONFIG

trap 'exit 143' TERM
# A step must never wait for somebody to type.
exec </dev/null
say "phase source"

# unpack ARCHIVE DIRECTORY: an archive of ours; owners are whoever unpacks.
unpack() {
    if ! { mkdir -p -- "$2" && tar -xof "$1" -C "$2"; }; then
        say "$1 cannot be unpacked"
        return 1
    fi
}

# On a drive the output of an earlier try is still there, if the cluster begins a job again by itself.
rm -rf -- "$dispatch_root/output/result" "$dispatch_root/output/outcome.json" || :
mkdir -p -- "$dispatch_root/output/result" "$dispatch_root/inputs" "$dispatch_root/scratch/home" \
    "$dispatch_root/scratch/tmp" "$dispatch_root/scratch/cache" "$dispatch_source" \
    || refuse 66 "the image's user cannot make $dispatch_root and $dispatch_source: let it be root, with \`USER root\`"

# All at once: whoever mounts many small files has packed them, and unpacking waits for the disk.
dispatch_jobs=
for dispatch_archive in "$dispatch_root"/packed/*.tar "$dispatch_root/source.tar" "$dispatch_root/before/work.tar"; do
    [ -f "$dispatch_archive" ] || continue
    command -v tar >/dev/null || refuse 66 "the image has no tar: add it"
    dispatch_name=${dispatch_archive##*/}
    case $dispatch_archive in
        "$dispatch_root/source.tar") dispatch_place=$dispatch_source ;;
        "$dispatch_root/before/work.tar") dispatch_place=$dispatch_root/output/work.part ;;
        *) dispatch_place=$dispatch_root/inputs/${dispatch_name%.tar} ;;
    esac
    unpack "$dispatch_archive" "$dispatch_place" &
    dispatch_jobs="$dispatch_jobs $!"
done
# An archive is there only when it is whole: what lies beside it is not.
if [ -d "$dispatch_root/before/work" ] && [ ! -f "$dispatch_root/before/work.tar" ]; then
    # What is mounted is nobody's to write; what was copied is.
    { mkdir -p -- "$dispatch_root/output/work.part" \
        && cp -Rp -- "$dispatch_root/before/work/." "$dispatch_root/output/work.part/" \
        && chmod -R u+w -- "$dispatch_root/output/work.part"; } &
    dispatch_jobs="$dispatch_jobs $!"
fi
for dispatch_job in $dispatch_jobs; do
    wait "$dispatch_job" || refuse 66 "what the job begins with cannot be laid out"
done

# Under its own name once it is whole: an attempt that ends before leaves no half of it to the next.
if [ ! -d "$dispatch_root/work" ]; then
    mkdir -p -- "$dispatch_root/output/work.part"
    mv -- "$dispatch_root/output/work.part" "$dispatch_root/output/work"
    ln -s output/work "$dispatch_root/work"
fi

exec /bin/sh "$dispatch_root/job/entrypoint.sh"
