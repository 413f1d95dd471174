import asyncio
import os
import socket
import time

import pytest

from dcgan_inpaint import short_command
from dcgan_inpaint.runtime import errors
from dcgan_inpaint.web import server


def test_old_files_go_and_so_do_the_oldest_of_too_many(tmp_path):
  now = time.time()
  ages = {"examples/a": 9000, "gradio/x/old": 5000, "results/1/b": 100}
  ages |= {"gradio/x/c": 50, "gradio/y/d": 10}
  for name, age in ages.items():
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(100))
    os.utime(path, (now - age, now - age))

  def left():
    return {name for name in ages if (tmp_path / name).exists()}

  server.remove_old(tmp_path, now - 3600, 1000)
  assert left() == ages.keys() - {"gradio/x/old"}
  server.remove_old(tmp_path, now - 3600, 250)
  assert left() == {"examples/a", "gradio/x/c", "gradio/y/d"}


def test_an_address_that_cannot_be_used_is_named():
  with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]
    with pytest.raises(errors.UserError, match=f"--port={port}.* --port=0"):
      server._listen("127.0.0.1", port)
  for host, port in (("nowhere.invalid", 0), ("127.0.0.1", 70_000)):
    with pytest.raises(errors.UserError, match=f"--host={host}"):
      server._listen(host, port)
  with server._listen("localhost", 0) as listening:
    assert listening.getsockname()[1] > 0


def test_nothing_is_fetched():
  with pytest.raises(ValueError, match="elsewhere"):
    asyncio.run(server._fetch_nothing("http://elsewhere.example/a.png"))


def test_without_the_extra_a_line_says_what_to_install(monkeypatch, capsys):
  find = short_command.importlib.util.find_spec
  monkeypatch.setattr(
    short_command.importlib.util,
    "find_spec",
    lambda name: None if name == "gradio" else find(name),
  )
  with pytest.raises(SystemExit) as ended:
    short_command.main(["serve"])
  assert ended.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("error: ") and "dcgan-inpaint[web]" in line
