#!/usr/bin/env bash
# Runs a job on this host.
#
#   launch/local.sh --config=configs/celeba.py --config.data.path=DIR
#     one process with all devices, which is enough for one host
#   launch/local.sh --processes=2 ...
#     several, as on a cluster; the GPUs, those of CUDA_VISIBLE_DEVICES if it is
#     set, are divided among them
#   launch/local.sh --processes=2 --cpu_devices=2 ...
#     the same without GPUs: each process has two devices made of the CPU
#   launch/local.sh --dry_run ...
#     only prints the command of each process
#
# $PYTHON is the Python interpreter. When a process fails, the others are killed
# and the script exits with its status; SIGTERM is passed on to all processes,
# and they save. The same command resumes.
set -euo pipefail

processes=1 cpu_devices='' dry_run='' flags=()
for argument in "$@"; do
  case $argument in
    --processes=*) processes=${argument#*=} ;;
    --cpu_devices=*) cpu_devices=${argument#*=} ;;
    --dry_run) dry_run=1 ;;
    *) flags+=("$argument") ;;
  esac
done
python=${PYTHON:-python}

gpus=()
if [[ -z $cpu_devices && -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
  IFS=, read -r -a visible <<<"${CUDA_VISIBLE_DEVICES// /}"
  for gpu in "${visible[@]}"; do
    # CUDA, too, reads no further than to what is no GPU.
    [[ $gpu == -1 || $gpu == NoDevFiles ]] && break
    gpus+=("$gpu")
  done
elif [[ -z $cpu_devices ]] && command -v nvidia-smi >/dev/null; then
  mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader)
fi
if ((processes > 1 && ${#gpus[@]} % processes)); then
  echo "error: $processes processes do not divide ${#gpus[@]} GPUs" >&2
  exit 2
fi
port=${PORT:-$("$python" -c 'import socket
s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])')}

# Sets `command` to what process $1 runs.
command_of() {
  command=(env)
  if [[ -n $cpu_devices ]]; then
    command+=("JAX_PLATFORMS=cpu" "JAX_NUM_CPU_DEVICES=$cpu_devices")
  elif ((processes > 1 && ${#gpus[@]})); then
    local each=$((${#gpus[@]} / processes)) IFS=,
    command+=("CUDA_VISIBLE_DEVICES=${gpus[*]:$1*each:each}")
  fi
  command+=("$python" -m dcgan_inpaint.main "${flags[@]}")
  if ((processes > 1)); then
    command+=("--coordinator_address=localhost:$port"
      "--num_processes=$processes" "--process_id=$1")
  else
    command+=(--num_processes=1)
  fi
}

if [[ -n $dry_run ]]; then
  for ((process = 0; process < processes; process++)); do
    command_of "$process"
    printf 'process %s:' "$process"
    printf ' %q' "${command[@]}"
    echo
  done
  exit
fi
if ((processes == 1)); then
  command_of 0
  exec "${command[@]}"
fi

declare -A running=() # From a process's PID to its number.
trap 'kill -TERM "${!running[@]}" 2>/dev/null || true' TERM INT
for ((process = 0; process < processes; process++)); do
  command_of "$process"
  "${command[@]}" > >(sed -u "s/^/[$process] /") \
    2> >(sed -u "s/^/[$process] /" >&2) &
  running[$!]=$process
done

while ((${#running[@]})); do
  status=0
  wait -n -p ended "${!running[@]}" || status=$?
  # A signal, which the trap has passed on, interrupts `wait` before any ends.
  [[ -n ${ended-} ]] || continue
  process=${running[$ended]}
  unset "running[$ended]"
  if ((status)); then
    echo "error: process $process of $processes ended with status $status;" \
      "the others are stopped; resume by running the same command" >&2
    # Blocked in a collective with the dead process, they cannot handle SIGTERM.
    kill -KILL "${!running[@]}" 2>/dev/null || true
    exit "$status"
  fi
done
wait # For the last lines of output.
