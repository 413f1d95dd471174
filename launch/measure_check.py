"""Looks at the machine before anything is measured: `measure_check.py DIR`.

Leaves in DIR what JAX runs on, as rows.json, and ends with status 2, and a line
that says what to do, where the accelerator or a package is not there.
"""

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

# From what is imported to what is installed; those of setup.py.
NEEDED = {
  "absl": "absl-py",
  "etils": "etils",
  "flatbuffers": "flatbuffers",
  "flax": "flax",
  "jax": "jax",
  "matplotlib": "matplotlib",
  "ml_collections": "ml-collections",
  "numpy": "numpy",
  "optax": "optax",
  "orbax": "orbax-checkpoint",
  "PIL": "pillow",
  "scipy": "scipy",
  "skimage": "scikit-image",
  "tensorboardX": "tensorboardX",
  "tqdm": "tqdm",
}
# Of setup.py too, for CelebA as tfds prepares it, which nothing here reads.
NOT_NEEDED = ("importlib_resources", "tensorflow-datasets")


def missing(modules: dict[str, str]) -> list[str]:
  """Returns the distributions whose modules cannot be found.

  Args:
    modules: {module: distribution}.
  """
  return [
    distribution
    for module, distribution in modules.items()
    if importlib.util.find_spec(module) is None
  ]


def _version(distribution: str) -> str | None:
  try:
    return importlib.metadata.version(distribution)
  except importlib.metadata.PackageNotFoundError:
    return None


def _nvidia() -> str:
  """Returns the GPUs that the driver sees, or ''."""
  if not shutil.which("nvidia-smi"):
    return ""
  query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version"]
  done = subprocess.run(
    [*query, "--format=csv,noheader"],
    capture_output=True,
    text=True,
    timeout=60,
  )
  return "; ".join(done.stdout.split("\n")).strip("; ")


def look(folder: pathlib.Path) -> dict[str, Any]:
  """Returns what there is.

  Args:
    folder: on the disk that the measurements go to.
  """
  import jax

  devices = jax.devices()
  stats = devices[0].memory_stats() or {}
  plugins = [
    f"{x.metadata['Name']} {x.version}"
    for x in importlib.metadata.distributions()
    if (x.metadata["Name"] or "").startswith(("jax-cuda", "libtpu"))
  ]
  return {
    "what": "machine",
    "platform": devices[0].platform,
    "kind": devices[0].device_kind,
    "devices": len(devices),
    "memory_gigabytes": round(stats.get("bytes_limit", 0) / 1e9, 1) or None,
    "driver": _nvidia() or None,
    "cores": os.cpu_count(),
    "free_disk_gigabytes": round(shutil.disk_usage(folder).free / 1e9, 1),
    "python": sys.version.split()[0],
    "plugins": plugins,
    **{x: _version(x) for x in ("jax", "jaxlib", "flax", "torch")},
  }


def main(folder: pathlib.Path, *, cpu: bool) -> int:
  """Looks; returns the exit status.

  Args:
    folder: that gets rows.json.
    cpu: whether the CPU will do.
  """
  if lacking := missing(NEEDED):
    print(
      f"error: not installed: {', '.join(lacking)}; pip install "
      f"{' '.join(lacking)}, or pip install -e '.[cuda13]'"
    )
    return 2
  try:
    row = look(folder)
  except RuntimeError as error:
    print(f"error: JAX finds no device: {str(error).splitlines()[0]}")
    return 2
  (folder / "rows.json").write_text(json.dumps([row]))
  if row["platform"] == "cpu" and not cpu:
    seen = row["driver"]
    advice = (
      f"the driver sees {seen}, and JAX has no plugin for it: pip install -e "
      "'.[cuda13]' (or cuda12)"
      if seen and not row["plugins"]
      else "is there an accelerator, and a driver? --cpu tries all without one"
    )
    print(f"error: JAX runs on the CPU; {advice}")
    return 2
  return 0


if __name__ == "__main__":
  sys.exit(main(pathlib.Path(sys.argv[1]), cpu="--cpu" in sys.argv[2:]))
