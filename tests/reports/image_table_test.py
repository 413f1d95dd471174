import csv

import pytest

from dcgan_inpaint.reports import image_table
from dcgan_inpaint.reports import results


@pytest.mark.parametrize(
  "value, cell",
  [
    ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
    ("+cmd|' /C calc'!A0.png", "'+cmd|' /C calc'!A0.png"),
    ("-a.png", "'-a.png"),
    ("@SUM(1).png", "'@SUM(1).png"),
    ("-1.5 -2e+03", "-1.5 -2e+03"),
    ("a=b.png", "a=b.png"),
    ("写真.png", "写真.png"),
    ("a\nb\x1b[2J\udce9.png", "a\\nb\\x1b[2J\\udce9.png"),
    (-3, "-3"),
  ],
)
def test_a_cell_is_text_and_no_formula(tmp_path, value, cell):
  for _ in range(2):
    with image_table.create(tmp_path, ["name"]) as write:
      write({"name": value})
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
      ((found,),) = list(csv.reader(file))[1:]
    assert found == cell
    value = found  # As when the tables of several processes are merged.


def test_a_table_is_not_written_through_a_link(tmp_path):
  (tmp_path / "own").write_text("own")
  (tmp_path / "results.csv").symlink_to(tmp_path / "own")
  with image_table.create(tmp_path, ["name"]) as write:
    write({"name": "a"})
  assert (tmp_path / "own").read_text() == "own"
  assert (tmp_path / "results.csv").read_text().split() == ["name", "a"]


def test_a_table_on_a_terminal_does_nothing_to_it():
  text = results.table([{"mask": "a\x1b[2J\nb", "n": 1}])
  assert len(text.splitlines()) == 2
  assert all(line.isprintable() for line in text.splitlines())
