#!/usr/bin/env bash
# Runs a job on all hosts of a TPU slice, one process a host.
#
#   launch/tpu_pod.sh NAME ZONE --config=configs/celeba.py \
#       --config.data.path=/mnt/shared/celeba --workdir=/mnt/shared/runs/celeba
#   launch/tpu_pod.sh --dry_run NAME ZONE ...
#     only prints the command of each process
#
# NAME is the TPU's name (gcloud compute tpus tpu-vm list). On every host this
# checkout must be in $DIRECTORY, installed by `pip install -e '.[tpu]'`. The
# workdir and the data must be on a disk that all hosts share (Filestore, or a
# bucket mounted by gcsfuse). The same command resumes, also on another slice.
set -euo pipefail

dry_run=''
if [[ ${1-} == --dry_run ]]; then
  dry_run=1
  shift
fi
if (($# < 3)); then
  echo "usage: launch/tpu_pod.sh [--dry_run] NAME ZONE --config=FILE ..." >&2
  exit 2
fi
name=$1 zone=$2
shift 2

# The processes find one another by the TPU hosts' metadata.
printf -v job ' %q' python -m dcgan_inpaint.main --platform=tpu "$@"
# One host compiles for all, if the variable names a folder on a shared disk.
cache=${JAX_COMPILATION_CACHE_DIR:+JAX_COMPILATION_CACHE_DIR=$JAX_COMPILATION_CACHE_DIR }
command="cd ${DIRECTORY:-dcgan_inpaint} && ${cache}exec$job"

launch=(gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone" --worker=all
  "--command=$command")
if [[ -n $dry_run ]]; then
  printf '%q ' "${launch[@]}"
  printf '\nprocess i, on worker i of %s: %s\n' "$name" "$command"
  exit
fi
exec "${launch[@]}"
