"""The arithmetic of docs/scaling.md, checked by hand."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def scaling():
  specification = importlib.util.spec_from_file_location(
    "scaling_table", DOCS / "scaling_table.py"
  )
  module = importlib.util.module_from_spec(specification)
  specification.loader.exec_module(module)
  return module


def test_collectives_are_counted_in_bytes(scaling):
  text = """
    %x = f32[4,2]{1,0} all-reduce(f32[4,2]{1,0} %a), to_apply=%sum
    %y = (bf16[3]{0}, u8[5]{0}) all-reduce-start(%b, %c), to_apply=%sum
    %z = s32[]{:T(128)} all-gather(%d), dimensions={0}
    %w = f32[100]{0} add(%e, %f)
  """
  assert scaling.collectives(text) == [4 * 2 * 4, 3 * 2 + 5, 4]


def test_an_all_reduce_goes_round_the_ring_of_each_group(scaling):
  of = scaling.Hardware(1e12, 1e9, group=8, fast=100.0, slow=10.0, latency=0.5)
  # Each device sends 2 (n - 1) / n of its bytes.
  assert scaling.all_reduce_seconds(800, 4, of) == pytest.approx(12.0)
  # Two groups of 8: 14 s within, and an eighth of the bytes between them.
  assert scaling.all_reduce_seconds(800, 16, of) == pytest.approx(14.0 + 10.0)


def test_a_step_is_what_is_computed_and_what_is_not_hidden(scaling):
  program = scaling.Program(
    flops=1e9,
    reduced=100_000_000,
    reductions=10,
    exchanged=12_288,
    state=0,
    temporary=0,
  )
  h100 = {
    row["devices"]: row
    for row in scaling.step_rows(program)
    if row["devices"].endswith("H100")
  }
  eight = h100["8 H100"]
  # 128 images of 1e9 operations at 40 % of 989e12.
  assert eight["compute, ms"] == "0.32"
  # 2 * 7/8 * 1e8 bytes at 450e9.
  assert eight["all-reduce, ms"] == "0.389"
  # 10 trees of 2 * 3 hops of 3e-6.
  assert eight["latency, ms"] == "0.180"
  # 0.324 + 0.180 + (0.389 - 0.324).
  assert eight["step, ms"] == "0.57"
  assert eight["efficiency"] == "57%"
  assert eight["hidden from a batch of"] == "154 a device"


@pytest.mark.slow
def test_the_page_holds_what_the_compiled_program_says():
  """In a process of its own, with two devices."""
  printed = subprocess.run(
    [sys.executable, DOCS / "scaling_table.py"],
    check=True,
    capture_output=True,
    text=True,
    cwd=DOCS.parent,
    env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(DOCS.parent)},
  ).stdout
  page = (DOCS / "scaling.md").read_text()
  tables = printed.strip().split("\n\n")
  assert len(tables) == 3
  for table in tables:
    # The memory depends on the version of XLA.
    for line in table.splitlines():
      assert "temporaries" in line or f"{line}\n" in page
