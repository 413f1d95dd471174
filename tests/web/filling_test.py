import dataclasses
import runpy

import numpy as np
from PIL import Image
import pytest

from dcgan_inpaint import command_line
from dcgan_inpaint.jobs import inpaint as job
from dcgan_inpaint.reports import pictures
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import sharding
from dcgan_inpaint.web import filling
from dcgan_inpaint.web import opening


def silent(done, what):
  pass


@pytest.mark.parametrize(
  "fields, named",
  [
    ({"mode": "magic"}, "fidelity, realism, paper"),
    ({"samples": 0}, "completions"),
    ({"samples": 9}, "from 1 to 8"),
    ({"samples": 1.5}, "completions"),
    ({"seed": -1}, "seed"),
    ({"seed": 1 << 32}, "seed"),
  ],
)
def test_settings_that_no_page_sends_are_refused(tmp_path, fields, named):
  request = filling.Request(tmp_path / "a.png", opening.Hole(), tmp_path)
  request = dataclasses.replace(request, **fields)
  filler = object.__new__(filling.Filler)  # Nothing is loaded.
  with pytest.raises(errors.UserError, match=named):
    filler.fill(request, silent)


@pytest.fixture(scope="module")
def filler(trained_run):
  """A tiny model, and a search of two steps."""
  made = filling.Filler(str(trained_run))
  made.warm_up()  # It has no encoder: nothing happens.
  made._config.search.steps = 2
  made._config.search.blending = "paste"  # Hides no difference.
  return made


def photograph(folder, mode="RGBA"):
  """Saves an image of the model's size, with a hole in its alpha."""
  y, x = np.mgrid[:64, :64]
  image = np.stack([3 * x, 3 * y, x + y, 0 * x + 255], axis=-1).astype(np.uint8)
  image[40:48, 8:16, 3] = 0
  image[50:55, 50:60, :3] = image[10:20, 10:20, :3] = 255  # Damage.
  path = folder / "my face.png"
  Image.fromarray(image).convert(mode).save(path)
  return path


@pytest.mark.slow
def test_a_hole_of_three_kinds_is_filled_and_all_else_stays(filler, tmp_path):
  path = photograph(tmp_path)
  drawn = np.zeros((128, 128), np.uint8)
  drawn[20:40, 20:40] = 255
  Image.fromarray(drawn).save(tmp_path / "mask.png")
  painted = np.zeros((512, 512), bool)
  painted[400:440, 400:480] = True
  expected = np.zeros((64, 64), bool)
  for place in (np.s_[40:48, 8:16], np.s_[10:20, 10:20], np.s_[50:55, 50:60]):
    expected[place] = True
  told = []
  filled = filler.fill(
    filling.Request(
      path,
      opening.Hole(painted, tmp_path / "mask.png", alpha=True),
      tmp_path / "results",
      mode="paper",
      samples=2,
    ),
    lambda done, what: told.append((done, what)),
  )
  assert [x.name for x in filled.results] == [
    "my face_filled_1.png", "my face_filled_2.png",
  ]  # fmt: skip
  mask = pictures.load_png(filled.mask)
  np.testing.assert_array_equal(mask, 255 * expected)
  before = pictures.load_png(path)
  results = [pictures.load_png(x) for x in filled.results]
  for after in results:
    np.testing.assert_array_equal(after[~expected], before[~expected])
    changed = np.any(after != before, axis=-1)
    assert np.mean(changed[expected]) > 0.5
    assert (after[..., 3] == 255).all()
  assert np.any(results[0] != results[1])
  # What the browser shows.
  for shown in (filled.before, *filled.after):
    assert pictures.load_png(shown).shape == (512, 512, 3)
  assert len(filled.near) == 2 and filled.faces == 1
  assert all(0 <= done <= 1 for done, _ in told)
  assert sorted(told) == told and any("2 of 2" in what for _, what in told)


@pytest.mark.slow
def test_the_result_is_that_of_the_job_inpaint(trained_run, tmp_path):
  path = photograph(tmp_path, "L")
  drawn = np.zeros((64, 64), np.uint8)
  drawn[16:48, 16:48] = 255
  mask = tmp_path / "mask.png"
  Image.fromarray(drawn).save(mask)
  filler = filling.Filler(str(trained_run))
  filler._config.search.steps = 2
  filled = filler.fill(
    filling.Request(
      path, opening.Hole(mask=mask), tmp_path / "results", mode="paper", seed=7
    ),
    silent,
  )
  path_of_config = command_line.find_config("inpaint")
  config = runpy.run_path(path_of_config)["get_config"]()
  config.input, config.masks = str(path), str(mask)
  config.output = str(tmp_path / "out.png")
  config.checkpoint.path = str(trained_run)
  config.search.mode, config.search.seed = "paper", 7
  config.search.steps = 2
  job.run(config, str(tmp_path), sharding.create_mesh())
  found = filled.results[0].read_bytes()
  assert found == (tmp_path / "out.png").read_bytes()


@pytest.mark.slow
def test_a_hole_that_is_nowhere_is_refused(filler, tmp_path):
  path = photograph(tmp_path)
  request = filling.Request(path, opening.Hole(), tmp_path / "r", mode="paper")
  with pytest.raises(errors.UserError, match="no hole"):
    filler.fill(request, silent)
  with pytest.raises(errors.UserError, match="encoder"):
    whole = dataclasses.replace(
      request, hole=opening.Hole(alpha=True), mode="fidelity"
    )
    filler.fill(whole, silent)
