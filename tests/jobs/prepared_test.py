import pathlib

from dcgan_inpaint.data import folder
from dcgan_inpaint.jobs import prepared


def photograph(name):
  return folder.File(name, lambda: name.encode())


def cut(root, name, count, content=b"picture"):
  """Writes the faces of a photograph as `prepare` does; returns their names."""
  record = prepared.Record(root)
  names = record.propose(photograph(name), content, count)
  record.claim(photograph(name), content, names)
  for face in names:
    path = pathlib.Path(root / face)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert not path.exists()
    path.write_bytes(b"face")
  return names


def test_names_never_meet_whatever_comes_first(tmp_path):
  assert cut(tmp_path / "a", "party.jpg", 2) == ["party_1.png", "party_2.png"]
  assert cut(tmp_path / "a", "party_1.jpg", 1) == ["party_1.jpg.png"]
  assert cut(tmp_path / "a", "party_1.png", 1) == ["party_1.png.png"]
  assert cut(tmp_path / "b", "party_1.jpg", 1) == ["party_1.png"]
  names = ["party.jpg_1.png", "party.jpg_2.png"]
  assert cut(tmp_path / "b", "party.jpg", 2) == names
  # Two folders, a photograph of one name in each.
  assert cut(tmp_path / "b", "party.jpg", 1, b"another") == ["party.png"]
  assert cut(tmp_path / "b", "party.jpg", 1, b"third") == ["party.jpg.png"]
  assert cut(tmp_path / "b", "party.jpg", 1, b"fourth") == ["party~2.png"]


def test_a_file_that_lies_there_is_not_replaced(tmp_path):
  (tmp_path / "a.png").write_bytes(b"mine")
  cut(tmp_path, "other.jpg", 1)
  assert cut(tmp_path, "a.jpg", 1) == ["a.jpg.png"]


def test_a_photograph_is_done_when_all_of_its_faces_exist(tmp_path):
  file = photograph("sub/a.jpg")
  assert not prepared.Record(tmp_path).is_done(file, b"x")
  names = cut(tmp_path, "sub/a.jpg", 2, b"x")
  assert prepared.Record(tmp_path).is_done(file, b"x")
  assert not prepared.Record(tmp_path).is_done(file, b"changed")
  (tmp_path / names[1]).unlink()
  record = prepared.Record(tmp_path)
  assert not record.is_done(file, b"x")
  assert record.propose(file, b"x", 2) == names


def test_a_torn_line_costs_its_photograph_alone(tmp_path):
  cut(tmp_path, "a.jpg", 1)
  with (tmp_path / prepared.NAME).open("a") as file:
    file.write('\n{"photograph": "b.j')
  cut(tmp_path, "c.jpg", 1)
  record = prepared.Record(tmp_path)
  assert record.is_done(photograph("a.jpg"), b"picture")
  assert record.is_done(photograph("c.jpg"), b"picture")
  assert not record.is_done(photograph("b.jpg"), b"picture")


def test_faces_of_an_earlier_version_count_by_their_names(tmp_path):
  for name in ("one.png", "two_1.png", "two_2.png"):
    (tmp_path / name).write_bytes(b"face")
  record = prepared.Record(tmp_path)
  for name, done in (("one.jpg", True), ("two.jpg", True), ("3.jpg", False)):
    assert record.is_done(photograph(name), b"x") == done
