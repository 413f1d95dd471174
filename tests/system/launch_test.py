"""Tests of `launch/` without the systems that it is for."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import kubernetes_validate
import pytest
import yaml

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"
SCRIPTS = ("local.sh", "measure.sh", "slurm.sbatch", "tpu_pod.sh")

# Replaces Python and the job: prints its arguments, then follows them.
STAND_IN = """#!/usr/bin/env bash
if [[ $1 == -c ]]; then echo 1234; exit; fi
trap 'echo saved; exit 0' TERM
echo "$@" "devices=$JAX_NUM_CPU_DEVICES"
for flag in "$@"; do
  case $flag in
    --fail=*) [[ " $* " == *" --process_id=${flag#*=} "* ]] && exit 3 ;;
    --short) exit 0 ;;
  esac
done
for _ in {1..600}; do sleep 0.1; done
"""


@pytest.fixture
def local(tmp_path):
  """Starts launch/local.sh with a replacement for Python."""
  python = tmp_path / "python"
  python.write_text(STAND_IN)
  python.chmod(0o755)

  def start(*flags):
    return subprocess.Popen(
      [LAUNCH / "local.sh", *flags],
      env={**os.environ, "PYTHON": str(python)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  return start


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_finds_nothing(name):
  shellcheck = pathlib.Path(sys.executable).with_name("shellcheck")
  subprocess.run([shellcheck, "--shell=bash", LAUNCH / name], check=True)


def test_the_kubernetes_objects_keep_to_their_schema():
  service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
  for resource in (service, job):
    kubernetes_validate.validate(resource, "1.33", strict=True)
  # Repeated numbers and names agree.
  spec = job["spec"]
  pod = spec["template"]["spec"]
  (container,) = pod["containers"]
  flags = dict(x[2:].split("=", 1) for x in container["args"])
  processes = int(flags["num_processes"])
  assert spec["completions"] == spec["parallelism"] == processes
  assert pod["subdomain"] == service["metadata"]["name"]
  assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
  host, port = flags["coordinator_address"].split(":")
  assert host == f"{job['metadata']['name']}-0.{pod['subdomain']}"
  assert container["ports"] == [{"containerPort": int(port)}]
  names = [variable["name"] for variable in container["env"]]
  assert flags["process_id"] == f"$({names[0]})"


def test_the_dockerfile_builds_what_kubernetes_runs_from_what_is_here():
  """Read, not built: images need a daemon, and the network."""
  root = LAUNCH.parent
  text = (root / "Dockerfile").read_text().replace("\\\n", " ")
  instructions = [
    line.split(None, 1)
    for line in text.splitlines()
    if line and not line.startswith("#")
  ]
  names = [name for name, _ in instructions]
  assert names[:2] == ["ARG", "FROM"] and names.count("USER") == 1
  assert set(names) <= {
    "ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "ENTRYPOINT", "CMD",
  }  # fmt: skip
  # All that is copied is here, and not ignored.
  ignored = (root / ".dockerignore").read_text().splitlines()
  for name, rest in instructions:
    if name == "COPY":
      *sources, _ = rest.split()
      for source in sources:
        assert (root / source).exists() and f"!{source}" in ignored
  # Its lock is of its Python, and setup.py has the extras.
  (version,) = re.findall(r"^ARG PYTHON=3\.(\d+)$", text, re.MULTILINE)
  assert f"requirements/lock-py3{version}.txt" in text
  setup = (root / "setup.py").read_text()
  kubernetes = (LAUNCH / "kubernetes.yaml").read_text()
  _, job = yaml.safe_load_all(kubernetes)
  (container,) = job["spec"]["template"]["spec"]["containers"]
  build = re.search(
    r"docker build --tag=(\S+) --build-arg=EXTRAS=(\S+) \.", text
  )
  assert build[0] in kubernetes and container["image"] == build[1]
  for extra in [*build[2].split(","), *re.findall(r"ARG EXTRAS=(\S+)", text)]:
    assert f'"{extra}": [' in setup
  # What the container starts is what the Job does.
  entry = next(rest for name, rest in instructions if name == "ENTRYPOINT")
  assert json.loads(entry) == container["command"]


@pytest.mark.parametrize(
  "command, lines, parts",
  [
    (
      ["local.sh", "--processes=3", "--cpu_devices=2", "--dry_run"],
      3,
      ["process 2: ", "JAX_NUM_CPU_DEVICES=2", "--process_id=2"],
    ),
    (["local.sh", "--dry_run"], 1, ["process 0: ", "--num_processes=1"]),
    (
      ["slurm.sbatch", "--dry_run"],
      1 + 2 * 8,
      ["srun ", "process 15 of 16: node 1, GPU 7"],
    ),
    (
      ["tpu_pod.sh", "--dry_run", "pod", "zone"],
      2,
      ["gcloud ", "--worker=all", "on worker i of pod"],
    ),
  ],
)
def test_a_dry_run_says_what_each_process_would_do(command, lines, parts):
  out = subprocess.run(
    ["bash", LAUNCH / command[0], *command[1:], "--config=a", "--x=b c"],
    check=True,
    capture_output=True,
    text=True,
  ).stdout
  assert len(out.splitlines()) == lines
  for part in [*parts, "dcgan_inpaint.main", "--config=a", r"--x=b\ c"]:
    assert part in out


@pytest.mark.parametrize(
  "visible, shares",
  [
    (None, ["0,1", "2,3"]),  # Of nvidia-smi.
    ("2,3", ["2", "3"]),
    ("3, 1,0,2", ["3,1", "0,2"]),
    ("GPU-1a,GPU--1b", ["GPU-1a", "GPU--1b"]),
    ("0,1,-1,2", ["0", "1"]),
    ("-1", None),
    ("", None),
    ("0,1,2", "error"),
  ],
)
def test_the_gpus_are_those_that_are_visible(tmp_path, visible, shares):
  smi = tmp_path / "nvidia-smi"
  smi.write_text("#!/bin/sh\nprintf '0\\n1\\n2\\n3\\n'\n")
  smi.chmod(0o755)
  environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
  environment.pop("CUDA_VISIBLE_DEVICES", None)
  if visible is not None:
    environment["CUDA_VISIBLE_DEVICES"] = visible
  done = subprocess.run(
    ["bash", LAUNCH / "local.sh", "--dry_run", "--processes=2", "--config=a"],
    env={**environment, "PORT": "1234", "PYTHON": sys.executable},
    capture_output=True,
    text=True,
  )
  found = re.findall(r"CUDA_VISIBLE_DEVICES=(\S+)", done.stdout)
  if shares == "error":
    assert done.returncode == 2 and "3 GPUs" in done.stderr
  else:
    assert [x.replace("\\", "") for x in found] == (shares or [])


def test_one_process_is_run_as_it_is(local):
  out, _ = local("--cpu_devices=4", "--short").communicate(timeout=20)
  assert out == "-m dcgan_inpaint.main --short --num_processes=1 devices=4\n"


def test_several_processes_get_their_numbers(local):
  process = local("--processes=2", "--cpu_devices=1", "--short")
  out, _ = process.communicate(timeout=20)
  assert process.returncode == 0
  assert sorted(out.splitlines()) == [
    f"[{i}] -m dcgan_inpaint.main --short --coordinator_address=localhost:1234"
    f" --num_processes=2 --process_id={i} devices=1"
    for i in range(2)
  ]


def test_one_that_fails_stops_the_others_and_is_named(local):
  started = time.monotonic()
  process = local("--processes=3", "--fail=1")
  _, err = process.communicate(timeout=30)
  assert process.returncode == 3
  assert re.search(r"process 1\b.*status 3\b", err)
  assert time.monotonic() - started < 20


def test_a_request_to_stop_reaches_all(local):
  process = local("--processes=2")
  for _ in range(2):
    assert "dcgan_inpaint.main" in process.stdout.readline()
  process.send_signal(signal.SIGTERM)
  out, _ = process.communicate(timeout=20)
  assert process.returncode == 0
  assert sorted(out.splitlines()) == ["[0] saved", "[1] saved"]
