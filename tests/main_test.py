import os
import pathlib
import re
import subprocess
import sys

from absl.testing import flagsaver
import forked
import jax
import numpy as np
from PIL import Image
import pytest
import tiny

from dcgan_inpaint import config as config_lib
from dcgan_inpaint import main
from dcgan_inpaint.data import synthetic
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.search import trained_model

ROOT = pathlib.Path(__file__).resolve().parents[1]

# `configs/quickstart.py`, reduced to seconds.
TINY = (
  "--config.model.width=0.03",
  "--config.data.max_images=16",
  "--config.train.batch_size=8",
  "--config.train.steps=4",
  "--config.train.save_every=2",
  "--config.train.sample_every=4",
  "--config.train.validation_images=2",
  "--config.train.validation_steps=2",
  "--config.search.steps=2",
  "--config.search.starts=2",
  "--config.search.batch_size=4",
  "--config.evaluation.images=4",
)


def command(*arguments):
  """Returns the command line as a list of words."""
  cache = jax.config.jax_compilation_cache_dir or ""
  words = [sys.executable, "-m", "dcgan_inpaint.main", *map(str, arguments)]
  return [*words, f"--compilation_cache={cache}"]


def environment():
  """Returns the environment that it runs in."""
  return {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    # For configs that tests write.
    "PYTHONPATH": str(ROOT / "tests"),
  }


def start(*arguments):
  """Starts the command line, without standard input and terminal."""
  return subprocess.Popen(
    command(*arguments),
    cwd=ROOT,
    env=environment(),
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process):
  """Waits; returns the exit status, standard output and standard error."""
  # A long timeout: the machine may be busy with other work.
  out, err = process.communicate(timeout=900)
  return process.returncode, out, err


def run(*arguments):
  return finish(start(*arguments))


def succeed(*arguments):
  status, out, err = run(*arguments)
  assert status == 0, err
  return out, err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Runs the quickstart; returns its workdir, output and errors."""
  workdir = tmp_path_factory.mktemp("quickstart")
  command = ("--config=configs/quickstart.py", f"--workdir={workdir}", *TINY)
  return workdir, *succeed(*command)


@pytest.mark.slow
def test_the_quickstart_trains_and_inpaints(trained):
  workdir, out, _ = trained
  saved = results.read(workdir)
  assert saved["job"] == "train"
  assert saved["config"]["model"]["width"] == 0.03
  train, *quality = saved["rows"]
  assert train["what"] == "train" and train["steps"] == 4
  assert [row["method"] for row in quality] == [
    "mean_image",
    "biharmonic",
    "dcgan",
  ]
  for row in quality:
    assert row["n"] == 4
    assert row["mse"] > 0 and row["psnr"] > 0 and -1 < row["ssim"] < 1
    # A readable table: one line per method, with its metrics.
    (line,) = [x for x in out.splitlines() if x.startswith(row["method"])]
    assert f"{row['mse']:.4g}" in line
  assert str(workdir / "results.json") in out
  for name in ("contact_sheet.png", "losses.png", "checkpoints/4"):
    assert (workdir / name).exists()


@pytest.mark.slow
def test_a_result_runs_again_from_its_file(trained, tmp_path):
  workdir, _, _ = trained
  _, err = succeed(
    f"--config=configs/again.py:{workdir / 'results.json'}",
    f"--workdir={tmp_path}",
  )
  assert "the result may differ" not in err
  first, again = (results.read(path) for path in (workdir, tmp_path))
  for name in ("versions", "commit", "devices"):
    assert first[name] == again[name]
  assert first["config"] == again["config"]
  for rows in (first["rows"], again["rows"]):
    for row in rows:
      assert re.fullmatch("[0-9a-f]{12}", row["data_digest"])
      for name in ("per_second", "milliseconds_per_step", "images_per_second"):
        row.pop(name, None)
  # To the bit: JSON has every digit of a float.
  assert first["rows"] == again["rows"]
  for name in ("metrics.jsonl", "contact_sheet.png"):
    assert (workdir / name).read_bytes() == (tmp_path / name).read_bytes()
  assert digests(workdir) == digests(tmp_path)


def digests(workdir):
  """Returns a digest of each network of a run."""
  config = config_lib.checkpoint()
  config.path = str(workdir)
  model = trained_model.load(config, tiny.mesh(1))
  return [trained_model.digest(weights) for weights in model.weights[:2]]


@pytest.mark.slow
def test_the_benchmark_leaves_its_figures_and_a_report(trained, tmp_path):
  workdir, _, _ = trained
  out, err = succeed(
    "--config=configs/benchmark.py",
    f"--workdir={tmp_path}",
    f"--config.checkpoint.path={workdir}",
    "--config.benchmark.methods=mean_image,harmonic",
    "--config.benchmark.masks=centre,text:share=0.2",
    "--config.benchmark.images=3",
  )
  assert "3 images, 2 methods, mask set " in err
  rows = results.read(tmp_path)["rows"]
  assert len(rows) == 4
  for row in rows:
    assert row["n"] == 3 and row["failures"] == 0
    for name in ("mse", "psnr", "ssim", "hole_mse", "hole_psnr"):
      assert row[name] > 0 and row[f"{name}_ci95"] > 0
    assert row["images_per_second"] > 0
    assert row["mask"] in ("centre 32", "text 20 %")
  # The readable table has no lists in it.
  assert "harmonic" in out and "by_hole_area" not in out
  for name in ("report.html", "results.csv", "figures.npz"):
    assert (tmp_path / name).exists()


@pytest.mark.slow
def test_the_log_is_our_own(trained):
  _, _, err = trained
  lines = err.splitlines()
  assert any("4 steps of 8" in line for line in lines)
  # Orbax logs every file it writes, and tfds every step.
  files = {path.name for path in (ROOT / "dcgan_inpaint").rglob("*.py")}
  for line in lines:
    assert line.split("] ")[0].split()[-1].split(":")[0] in files, line


@pytest.mark.slow
def test_the_same_command_goes_on(trained):
  workdir, _, _ = trained
  _, err = succeed(
    "--config=configs/quickstart.py",
    f"--workdir={workdir}",
    *TINY,
    "--config.train.steps=5",
    "--config.evaluation.methods=",
  )
  assert f"resuming {workdir} at step 4" in err
  rows = results.read(workdir)["rows"]
  assert [row["steps"] for row in rows] == [5]
  assert (workdir / "results.1.json").exists()


@pytest.mark.slow
def test_evaluate_scores_a_folder(trained, tmp_path):
  for i, face in enumerate(synthetic.load("test", 3)):
    pictures.save_png(tmp_path / "faces" / f"{i}.png", face)
  out, _ = succeed(
    "--config=configs/evaluate.py",
    f"--workdir={tmp_path / 'run'}",
    f"--config.checkpoint.path={trained[0]}",
    "--config.data.name=folder",
    f"--config.data.path={tmp_path / 'faces'}",
    "--config.data.split=all",
    "--config.masks=half",
    "--config.mask.side=top",
    "--config.search.steps=2",
    "--config.search.batch_size=4",
    "--config.evaluation.methods=dcgan",
  )
  (row,) = results.read(tmp_path / "run")["rows"]
  assert row["method"] == "dcgan" and row["mask"] == "top half"
  assert row["n"] == 3 and "top half" in out
  assert (tmp_path / "run" / "contact_sheet.png").exists()


@pytest.mark.slow
def test_inpaint_does_what_it_can_and_says_what_it_could_not(trained, tmp_path):
  faces = synthetic.load("test", 2)
  white = np.zeros((64, 64), np.uint8)
  white[20:40, 20:40] = 255
  for i, face in enumerate(faces):
    pictures.save_png(tmp_path / "in" / f"{i}.png", face)
  pictures.save_png(tmp_path / "masks" / "1.png", white)
  status, out, err = run(
    "--config=configs/inpaint.py",
    f"--workdir={tmp_path / 'run'}",
    f"--config.checkpoint.path={trained[0]}",
    f"--config.input={tmp_path / 'in'}",
    f"--config.masks={tmp_path / 'masks'}",
    f"--config.output={tmp_path / 'out'}",
    "--config.search.mode=paper",
    "--config.search.steps=2",
    "--config.search.batch_size=4",
  )
  assert status == 2
  assert "left out 0.png: " in err
  assert err.splitlines()[-1].startswith("error: images left out: 1;")
  assert "Traceback" not in err
  assert [x.name for x in (tmp_path / "out").glob("[!.]*")] == ["1.png"]
  made = np.asarray(Image.open(tmp_path / "out" / "1.png"))
  np.testing.assert_array_equal(made[white == 0], faces[1][white == 0])
  # The results are written all the same.
  (row,) = results.read(tmp_path / "run")["rows"]
  assert (row["n"], row["failed"]) == (1, 1)
  assert "dcgan" in out


@pytest.mark.slow
def test_prepare_makes_a_data_set_that_can_be_scored(trained, tmp_path):
  images = tmp_path / "img_align_celeba"
  rng = np.random.default_rng(0)
  names = [f"{number:06d}.jpg" for number in range(1, 7)]
  images.mkdir()
  for name in names:
    picture = rng.integers(0, 256, (218, 178, 3)).astype(np.uint8)
    Image.fromarray(picture).save(images / name)
  splits = (0, 0, 0, 1, 2, 2)
  (tmp_path / "list_eval_partition.txt").write_text(
    "".join(f"{x} {split}\n" for x, split in zip(names, splits, strict=True))
  )
  succeed(
    "--config=configs/prepare.py",
    f"--workdir={tmp_path / 'run'}",
    f"--config.data.source={images}",
    f"--config.data.path={tmp_path / 'prepared'}",
  )
  assert results.read(tmp_path / "run")["job"] == "prepare"
  succeed(
    "--config=configs/evaluate.py",
    f"--workdir={tmp_path / 'evaluated'}",
    f"--config.checkpoint.path={trained[0]}",
    f"--config.data.path={tmp_path / 'prepared'}",
    "--config.evaluation.methods=mean_image",
  )
  (row,) = results.read(tmp_path / "evaluated")["rows"]
  assert row["n"] == 2


@pytest.mark.slow
def test_prepare_makes_a_data_set_of_photographs(tmp_path):
  photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
  pictures.save_png(tmp_path / "photos" / "a.png", photo)
  out, _ = succeed(
    "--config=configs/prepare.py",
    f"--workdir={tmp_path / 'run'}",
    "--config.data.name=folder",
    f"--config.data.source={tmp_path / 'photos'}",
    f"--config.data.path={tmp_path / 'faces'}",
    "--config.faces=whole",
  )
  (row,) = results.read(tmp_path / "run")["rows"]
  assert (row["photographs"], row["faces"]) == (1, 1)
  assert "faces" in out
  with Image.open(tmp_path / "faces" / "a.png") as face:
    assert face.size == (64, 64)


QUICKSTART = "--config=configs/quickstart.py"
MISTAKES = {
  "no config": ([], ["--config=quickstart"]),
  "no such config": (
    ["--config=configs/quickstar.py", "--config.train.steps=3"],
    ["configs/quickstar.py"],
  ),
  "unknown field": (
    [QUICKSTART, "--config.train.stepz=3"],
    ["stepz", "Did you mean", "steps"],
  ),
  "unknown section": (
    [QUICKSTART, "--config.trian.steps=3"],
    ["trian", "config.train.steps"],
  ),
  "a job of another config": (
    [QUICKSTART, "--config.job=benchmark"],
    ["config.job='benchmark'", "config.benchmark", "--config=benchmark"],
  ),
  "a name that nobody knows": (
    [QUICKSTART, "--config.search.blending=alpha"],
    ["config.search.blending='alpha'", "paste, poisson"],
  ),
  "unknown flag": ([QUICKSTART, "--workdr=x"], ["workdr", "workdir"]),
  "no flag at all": (
    [QUICKSTART, "steps=3"],
    ["'steps=3'", "--config.FIELD=VALUE"],
  ),
  "a word for a number": (
    [QUICKSTART, "--config.train.steps=many"],
    ["config.train.steps", "many"],
  ),
  "a value that cannot be meant": (
    [QUICKSTART, "--config.data.name=coco"],
    ["config.data.name='coco'", "celeba, folder, synthetic"],
  ),
  "a section for a value": ([QUICKSTART, "--config.train=3"], ["train"]),
  "a wrong mask": (
    [QUICKSTART, *TINY, "--config.mask.size=99"],
    ["config.mask.size", "99"],
  ),
  "no such checkpoint": (
    [
      "--config=configs/evaluate.py",
      "--config.checkpoint.path=none",
      "--config.data.name=synthetic",
    ],
    ["config.checkpoint.path='none'"],
  ),
  "nothing prepared": (
    ["--config=configs/celeba.py", "--config.data.path=none"],
    ["configs/prepare.py"],
  ),
  "drawn faces to prepare": (
    ["--config=configs/prepare.py", "--config.data.name=synthetic"],
    ["config.data.name='synthetic'", "celeba, folder"],
  ),
  "nothing to inpaint": (
    ["--config=configs/inpaint.py", "--config.input=none"],
    ["none does not exist", "config.input"],
  ),
  "no results to run again": (
    ["--config=configs/again.py:none.json"],
    ["none.json does not exist", "workdir of a job"],
  ),
  "no accelerator": (
    # For a flag that it does not know, XLA would print a message of its own.
    [QUICKSTART, "--platform=gpu", "--deterministic"],
    ["--platform=gpu", "cpu", "cuda12"],
  ),
}


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
  """Returns the result of each of MISTAKES: the status, and both outputs."""
  root = tmp_path_factory.mktemp("mistakes")
  out, err = root / "out", root / "err"
  ended = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(ROOT)
    for name, (arguments, _) in MISTAKES.items():
      words = [*arguments, f"--workdir={root / name}"]
      process = forked.start(words, out, err)
      process.join(900)
      ended[name] = process.exitcode, out.read_text(), err.read_text()
  return ended


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_line_that_names_it(mistakes, name):
  status, out, err = mistakes[name]
  assert status == 2 and out == ""
  ours = [line for line in err.splitlines() if line.startswith("error: ")]
  assert err.endswith(ours[0] + "\n") and len(ours) == 1
  for part in MISTAKES[name][1]:
    assert part in ours[0]
  # Before that, only our own log.
  assert "Traceback" not in err


def test_deterministic_is_said_to_xla_beside_what_it_was_told(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=dump")
  monkeypatch.setattr(sharding, "start_processes", lambda *unused: 1)
  with flagsaver.flagsaver(deterministic=True), pytest.raises(SystemExit):
    main.main(["main", "no flag"])
  assert os.environ["XLA_FLAGS"].split() == [
    "--xla_dump_to=dump",
    "--xla_gpu_deterministic_ops=true",
  ]


def test_steps_of_a_job_that_makes_none_are_refused():
  with (
    flagsaver.flagsaver(profile_steps="1:2"),
    pytest.raises(errors.UserError, match="'export'.*train, .*inpaint"),
  ):
    main._profile("export", "")
