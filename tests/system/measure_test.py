"""`launch/measure.sh` without an accelerator, and the tables of its figures."""

import importlib.util
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile

import measure
import measure_check
import measure_commands
import measure_faces
import measure_steps
import numpy as np
from PIL import Image
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Stands for the peer and for torch, and takes no time.
PEER = """
import sys
batches = sys.argv[sys.argv.index("--batch") + 1:sys.argv.index("--device")]
for batch in batches:
  rate = f"{batch}.5 images/s (2.50 ms/step)"
  print(f"torch {sys.argv[1]}  batch {batch}: {rate}")
"""


@pytest.fixture(scope="module")
def tables():
  specification = importlib.util.spec_from_file_location(
    "performance_tables", ROOT / "docs" / "performance_tables.py"
  )
  module = importlib.util.module_from_spec(specification)
  specification.loader.exec_module(module)
  return module


def options(tmp_path, *words):
  return measure._options(["60", "--cpu", f"--out={tmp_path}", *words])


def rate(what, implementation, batch, per_second, **fields):
  return {
    "what": what,
    "implementation": implementation,
    "batch": batch,
    "per_second": per_second,
    **fields,
  }


def line(step, *rows, status="done", setting=""):
  return {
    "step": step,
    "status": status,
    "seconds": 30.0,
    "date": "2026-11-30T12:00:00+00:00",
    "setting": setting,
    "rows": list(rows),
  }


def python_step(script, **fields):
  return measure_commands.Step("a", [sys.executable, "-c", script], 9, **fields)


def run_step(step, folder, seconds, stop=None):
  stop = stop or threading.Event()
  return measure.run_step(step, folder, seconds, stop)


def test_a_step_leaves_its_rows_and_how_it_ended(tmp_path):
  write = "open('rows.json', 'w').write('[{\"what\": 1}]');"
  script = f"import os; os.chdir({str(tmp_path / 'a')!r}); {write}"
  done = run_step(python_step(script), tmp_path / "a", 60)
  assert (done["status"], done["rows"]) == ("done", [{"what": 1}])
  # What an earlier run has left does not count for one that fails.
  script = "print('error: too bad'); raise SystemExit(2)"
  failed = run_step(python_step(script), tmp_path / "a", 60)
  assert (failed["status"], failed["rows"]) == ("failed", [])
  assert failed["message"] == "error: too bad"


def test_a_step_whose_time_is_over_is_stopped(tmp_path):
  began = time.monotonic()
  script = "import time; time.sleep(60)"
  line = run_step(python_step(script), tmp_path / "a", 0.3)
  assert (line["status"], line["rows"]) == ("cut", [])
  assert line["seconds"] >= 0.3 and time.monotonic() - began < 30


def test_a_step_that_is_stopped_can_save_and_keeps_its_parts(tmp_path):
  script = f"""
import pathlib, signal, sys, time
folder = pathlib.Path({str(tmp_path / "a")!r})
def save(*unused):
  (folder / "saved").touch()
  sys.exit(0)
signal.signal(signal.SIGTERM, save)
(folder / "parts").mkdir()
(folder / "parts" / "x.json").write_text('{{"what": "train"}}')
(folder / "ready").touch()
time.sleep(60)
"""

  class Ready(threading.Event):
    def is_set(self):
      return (tmp_path / "a" / "ready").exists()

  line = run_step(python_step(script), tmp_path / "a", 60, Ready())
  assert (line["status"], line["rows"]) == ("cut", [{"what": "train"}])
  assert (tmp_path / "a" / "saved").exists()


def test_xla_gets_its_flags_beside_those_given(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--given")
  assert measure._environment(python_step(""))["XLA_FLAGS"] == "--given"
  step = python_step("", environment={"XLA_FLAGS": "--own", "A": "b"})
  environment = measure._environment(step)
  assert environment["XLA_FLAGS"] == "--given --own"
  assert environment["A"] == "b" and environment["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(
  "lines, words, reason",
  [
    ([], [], "needs the step paper_training"),
    ([line("paper_training", status="cut")], [], "needs the step paper_tr"),
    ([line("paper_training")], [], ""),
    ([line("paper_training"), line("paper_search")], [], "done before"),
    ([line("paper_training"), line("paper_search", status="cut")], [], ""),
    ([line("paper_training"), line("paper_search", status="failed")], [], ""),
    (
      [
        line("paper_training"),
        line("paper_search"),
        line("paper_search", status="set aside"),
      ],
      [],
      "",
    ),
    # What it followed was run once more.
    (
      [line("paper_training"), line("paper_search"), line("paper_training")],
      [],
      "",
    ),
    ([line("paper_training")], ["--only=train"], "not selected"),
  ],
)
def test_a_step_is_run_once_and_after_those_it_needs(
  tmp_path, lines, words, reason
):
  measured = measure.Measurements(tmp_path)
  for each in lines:
    measured.add(each)
  given = options(tmp_path, *words)
  chosen = measure_steps.choose([], given)
  step = measure_steps.plan(given, chosen)["paper_search"]
  again = measure.Measurements(tmp_path)
  assert again.lines == lines
  assert measure._why_not(step, again, given).startswith(reason)
  assert bool(measure._why_not(step, again, given)) == bool(reason)


def test_a_line_that_was_cut_in_the_middle_counts_for_none(tmp_path, capsys):
  measured = measure.Measurements(tmp_path)
  measured.add(line("train"))
  with (tmp_path / "measurements.jsonl").open("a") as file:
    file.write('{"step": "sear')
  assert measure.Measurements(tmp_path).lines == [line("train")]
  assert "measurements.jsonl" in capsys.readouterr().out


def test_a_step_that_is_run_anew_is_set_aside(tmp_path):
  measured = measure.Measurements(tmp_path)
  for number in range(2):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "log.txt").write_text(str(number))
    measure._set_aside(["train", "search"], measured)
  assert (tmp_path / "train.1" / "log.txt").read_text() == "0"
  assert (tmp_path / "train.2" / "log.txt").read_text() == "1"
  assert not (tmp_path / "train").exists()
  assert [x["status"] for x in measure.read(tmp_path)] == ["set aside"] * 4


def test_the_fastest_settings_are_chosen(tmp_path):
  given = options(tmp_path)
  first, middle = measure_commands.CPU.train_batches
  assert measure_steps.choose([], given) == ("dense", {})
  lines = [
    line("train", rate("train", "dense", middle, 10.0)),
    line("train", rate("train", "dense", first, 5.0)),
    line(
      "implementations",
      rate("train", "phases", middle, 11.0),
      rate("train", "plain", middle, 9.0),
      # Another batch decides nothing.
      rate("train", "plain", first, 99.0),
    ),
    line("search", rate("search", "dense", 4, 3.0)),
    line(
      "command_buffers",
      rate("train", "dense", first, 4.0),
      rate("search", "dense", 4, 3.1),
      setting="command buffers",
    ),
  ]
  chosen = measure_steps.choose(lines, given)
  assert chosen.implementation == "phases"
  assert chosen.flags == {"search": measure_steps.COMMAND_BUFFERS}
  # Once the training has begun it cannot change, unless it begins anew.
  faster = line("implementations", rate("train", "plain", middle, 99.0))
  begun = [*lines, line("paper_training", status="cut"), faster]
  assert measure_steps.choose(begun, given) == chosen
  anew = [*begun, line("paper_training", status="set aside")]
  assert measure_steps.choose(anew, given).implementation == "plain"
  plan = measure_steps.plan(given, chosen)
  training = plan["paper_training"]
  assert "--config.model.convolution=phases" in training.command
  assert "XLA_FLAGS" not in training.environment
  search = plan["paper_search"]
  assert search.environment["XLA_FLAGS"] == measure_steps.COMMAND_BUFFERS


def test_faces_are_those_given_or_drawn(tmp_path):
  (tmp_path / "faces.zip").touch()
  drawn, given = (
    measure_steps.plan(each, measure_steps.choose([], each))
    for each in (
      options(tmp_path),
      options(tmp_path, f"--data={tmp_path / 'faces.zip'}"),
    )
  )
  for name in ("paper_training", "paper_search", "encoder"):
    assert "--config.data.name=synthetic" in drawn[name].command
    assert f"--config.data.path={tmp_path}/faces.zip" in given[name].command
  assert "needs --data" in drawn["streaming"].unfit
  with pytest.raises(SystemExit):
    options(tmp_path, "--data=none.zip")
  with pytest.raises(SystemExit):
    options(tmp_path, "--only=nothing")


def test_faces_come_out_of_sheets_under_their_names(tmp_path, monkeypatch):
  monkeypatch.setattr(measure_faces, "_SIDE", 2)
  # Smooth, so that WebP keeps them; two full sheets and one with a single face.
  ramp = np.linspace(0, 200, 16)
  faces = {
    f"{number:06d}.png": np.uint8(
      np.stack(
        [ramp[:, None] + 0 * ramp, ramp + 0 * ramp[:, None]]
        + [np.full((16, 16), 20.0 * number)],
        axis=-1,
      )
    )
    for number in range(9)
  }
  for place, source in enumerate((list(faces)[:4], list(faces)[4:])):
    with zipfile.ZipFile(tmp_path / f"{place}.zip", "w") as archive:
      for name in source:
        encoded = io.BytesIO()
        Image.fromarray(faces[name]).save(encoded, "PNG")
        archive.writestr(name, encoded.getvalue())
  packed = tmp_path / "x.sheets.zip"
  sources = [tmp_path / "0.zip", tmp_path / "1.zip"]
  assert measure_faces.pack(packed, sources) == 9
  with zipfile.ZipFile(packed) as archive:
    assert len(archive.namelist()) == 3 + 1
  assert measure_faces.unpack(packed, tmp_path / "faces.zip") == 9
  with zipfile.ZipFile(tmp_path / "faces.zip") as archive:
    assert [name[:6] for name in archive.namelist()] == [x[:6] for x in faces]
    for name in archive.namelist():
      face = np.asarray(Image.open(io.BytesIO(archive.read(name))))
      given = faces[f"{name[:6]}.png"].astype(int)
      assert np.abs(face[4:-4, 4:-4] - given[4:-4, 4:-4]).max() < 12


def test_what_the_check_asks_for_is_what_setup_asks_for():
  setup = (ROOT / "setup.py").read_text()
  required = setup[setup.index("install_requires") : setup.index("extras_req")]
  names = set(re.findall(r'^    "([\w-]+)', required, re.MULTILINE))
  found = {*measure_check.NEEDED.values(), *measure_check.NOT_NEEDED}
  assert {name.lower() for name in found} == {name.lower() for name in names}
  assert measure_check.missing(measure_check.NEEDED) == []
  assert measure_check.missing({"no_such_module": "it"}) == ["it"]


MACHINE = {"platform": "gpu", "kind": "NVIDIA H100", "jax": "0.12.0"}


def test_tables_hold_what_was_measured_last(tables):
  dense = {
    "milliseconds_per_step": 4.5,
    "milliseconds_fastest": 4.0,
    "milliseconds_slowest": 5.0,
    "flops_utilisation": 0.62,
    "memory_megabytes": 1234.0,
    "compile_seconds": 33.0,
  }
  scored = {
    "mask": "centre 32", "n": 2595, "mse": 261.234, "psnr": 24.9,
    "ssim": 0.85678, "images_per_second": 101.0,
  }  # fmt: skip
  lines = [
    line("check", MACHINE),
    line("train", rate("train", "dense", 512, 1.0), status="cut"),
    line("train", rate("train", "dense", 512, 50_000.0, **dense)),
    line("torch_train", rate("train", "torch eager", 512, 25_000.0)),
    line("torch_train_compiled", rate("train", "torch compiled", 512, 20e3)),
    line(
      "command_buffers",
      rate("train", "dense", 64, 24_000.4),
      setting="command buffers",
    ),
    line("search", rate("search", "dense", 1, 2.34)),
    line("search", status="failed"),
    # A training that was cut once.
    line("paper_training", status="cut"),
    line(
      "paper_training",
      {"what": "train", "batch": 128, "steps": 31250, "per_second": 60e3},
    ),
    line("fidelity", scored),
    line("out_of_memory", {"what": "out_of_memory", "advised": False}),
  ]
  page = tables.page(lines)
  assert "NVIDIA H100; JAX 0.12.0" in page and "2026-11-30" in page
  cells = [
    [cell.strip() for cell in row.strip("|").split("|")]
    for row in page.splitlines()
    if row.startswith("|")
  ]
  header = [
    "batch", "dense", "dense, command buffers", "torch compiled",
    "torch eager", "best / PyTorch's best", "target",
  ]  # fmt: skip
  assert header in cells
  assert ["512", "50,000", "–", "20,000", "25,000", "**2.00**", "1.8"] in cells
  assert ["64", "–", "24,000", "–", "–", "–", "4.0"] in cells
  assert ["1", "2.34", "–", "4.0"] in cells
  step = ["train", "512", "dense", "4.5", "4 to 5", "62%", "1,234", "33"]
  assert step in cells
  score = ["fidelity", "centre 32", "2595", "261.2", "24.90", "0.8568", "101"]
  assert score in cells
  assert "4,000,000 images in 60 s" in page and "60,000 a second" in page
  assert "NO advice" in page


def test_tables_go_into_their_place_and_only_from_an_accelerator(
  tables, tmp_path, monkeypatch, capsys
):
  text = tables.PAGE.read_text()
  assert text.count(tables.BEGIN) == text.count(tables.END) == 1
  page = tmp_path / "page.md"
  page.write_text(f"above\n{tables.BEGIN}\nold\n{tables.END}\nbelow\n")
  monkeypatch.setattr(tables, "PAGE", page)
  measured = measure.Measurements(tmp_path)
  measured.add(line("check", {**MACHINE, "platform": "cpu"}))
  assert tables.main([str(tmp_path), "--write"]) == 2
  assert "CPU" in capsys.readouterr().out and "old" in page.read_text()
  measured.add(line("check", MACHINE))
  assert tables.main([str(tmp_path), "--write"]) == 0
  written = page.read_text()
  assert written.startswith(f"above\n{tables.BEGIN}\n\nMeasured by")
  assert written.endswith(f"\n\n{tables.END}\nbelow\n") and "old" not in written
  assert tables.insert(written, "x").count("x\n") == 1


def start(out, *words, python_path=""):
  return subprocess.Popen(
    [ROOT / "launch" / "measure.sh", *words, f"--out={out}"],
    env={
      **os.environ,
      "PYTHON": sys.executable,
      "PYTHONPATH": str(python_path),
      "JAX_PLATFORMS": "cpu",
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.mark.slow
def test_no_accelerator_ends_in_a_line(tmp_path):
  out, _ = start(tmp_path, "60").communicate(timeout=300)
  assert out.startswith("platform cpu") or "platform cpu" in out
  assert "error: JAX runs on the CPU" in out.splitlines()[-1]
  assert "--cpu" in out


@pytest.mark.slow
def test_figures_are_left_and_a_cut_measurement_goes_on(tmp_path):
  (tmp_path / "torch.py").touch()
  (tmp_path / "peer.py").write_text(PEER)
  words = (
    "300",
    "--cpu",
    f"--peer={tmp_path / 'peer.py'}",
    "--only=torch_train,search,torch_search",
  )
  out = tmp_path / "out"
  first = start(out, *words, python_path=tmp_path)
  printed = ""
  while "search: " not in printed:
    printed = first.stdout.readline()
  first.send_signal(signal.SIGTERM)
  _, errors = first.communicate(timeout=120)
  assert first.returncode == 1, errors
  steps = [(x["step"], x["status"]) for x in measure.read(out)]
  assert steps == [
    ("check", "done"),
    ("torch_train", "done"),
    ("search", "cut"),
  ]

  second = start(out, *words, python_path=tmp_path)
  printed, errors = second.communicate(timeout=900)
  assert second.returncode == 0, errors
  assert "torch_train: done before" in printed
  lines = measure.read(out)[3:]
  assert [(x["step"], x["status"]) for x in lines] == [
    ("check", "done"),
    ("search", "done"),
    ("torch_search", "done"),
  ]
  rows = lines[1]["rows"]
  sizes = measure_commands.CPU
  assert [row["batch"] for row in rows] == list(sizes.search_batches)
  assert all(row["implementation"] == "dense" for row in rows)
  assert lines[2]["rows"][0] == {
    "what": "search",
    "implementation": "torch eager",
    "batch": 1,
    "per_second": 1.5,
    "milliseconds_per_step": 2.5,
  }
  made = subprocess.run(
    [sys.executable, ROOT / "docs" / "performance_tables.py", out],
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert "| batch | dense | torch eager |" in made
  assert json.loads((out / "search" / "results.json").read_text())["rows"] == (
    rows
  )
