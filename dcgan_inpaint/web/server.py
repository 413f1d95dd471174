"""Serves the page: `dcgan-inpaint serve`."""

from collections.abc import Iterator
import contextlib
import functools
import ipaddress
import os
import pathlib
import secrets
import signal
import socket
import tempfile
import threading
import time
from typing import Any

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.runtime import untrusted
from dcgan_inpaint.web import examples
from dcgan_inpaint.web import filling
from dcgan_inpaint.web import guard
from dcgan_inpaint.web import worker as worker_lib

_KEPT = 3600  # Seconds that what a visitor gave, and its result, are kept.
_MAX_KEPT = 1 << 32  # Bytes of all visitors' files together.
# A request has a file and some hundred bytes about it.
_AROUND = 1 << 16
# What the page asks for, of all that Gradio offers.
_PATHS = (
  "/assets/",
  "/config",
  "/favicon.ico",
  "/gradio_api/app_id",
  "/gradio_api/cancel",
  "/gradio_api/heartbeat/",
  "/gradio_api/info",
  "/gradio_api/queue/",
  "/gradio_api/reset",
  "/gradio_api/startup-events",
  "/gradio_api/upload",
  "/manifest.json",
  "/robots.txt",
  "/static/",
  "/svelte/",
  "/theme.css",
)


def serve(host: str, port: int, model: str, seconds: float) -> None:
  """Serves the page until a signal ends it.

  Args:
    host: the name or address to listen at.
    port: 0 takes a free one.
    model: as for `dcgan_inpaint.load_pretrained`.
    seconds: the most that filling a hole may take.

  Raises:
    errors.UserError: the address cannot be used, or the model cannot be loaded.
  """
  with (
    _ending(),
    contextlib.closing(_listen(host, port)) as listening,
    tempfile.TemporaryDirectory(
      prefix="dcgan_inpaint_", ignore_cleanup_errors=True
    ) as folder,
  ):
    root = pathlib.Path(folder)
    worker = worker_lib.Worker(functools.partial(_filler, model), seconds)
    with contextlib.closing(worker):
      address, port = listening.getsockname()[:2]
      is_local = ipaddress.ip_address(address).is_loopback
      token = "" if is_local else secrets.token_urlsafe(24)
      app = _app(worker.do, root, token)
      worker.wait()
      name = f"[{address}]" if ":" in address else address
      if ipaddress.ip_address(address).is_unspecified:
        name = socket.gethostname()
      query = f"?token={token}" if token else ""
      print(f"open http://{name}:{port}/{query} (Ctrl-C ends it)", flush=True)
      _run(app, listening, root)


def _filler(model: str) -> Any:
  """Returns what fills holes, in a process of its own."""
  import jax

  from dcgan_inpaint.runtime import cache
  from dcgan_inpaint.runtime import process

  process.keep_freed_memory()
  programs = os.path.expanduser(
    os.environ.get("JAX_COMPILATION_CACHE_DIR", cache.PROGRAMS)
  )
  if programs:
    jax.config.update("jax_compilation_cache_dir", programs)
    cache.heal_programs(programs)
  filler = filling.Filler(model)
  filler.warm_up()
  return filler.fill


def _listen(host: str, port: int) -> socket.socket:
  """Returns the socket that the page is served at."""
  refusal = f"--host={host} --port={port}"
  advice = "name another, or --port=0 for any that is free"
  if not 0 <= port < 1 << 16:
    raise errors.UserError(f"{refusal}: ports are 0 to 65535; {advice}")
  try:
    family, kind, protocol, _, address = socket.getaddrinfo(
      host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
  except (OSError, UnicodeError) as error:
    raise errors.UserError(f"{refusal}: {error}; {advice}") from error
  listening = socket.socket(family, kind, protocol)
  try:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(address)
    # A browser may come before the server is there.
    listening.listen()
  except OSError as error:
    listening.close()
    reason = f"{error.strerror}; {advice}"
    raise errors.UserError(f"{refusal}: {reason}") from error
  return listening


def _app(fill: Any, root: pathlib.Path, token: str) -> guard.App:
  """Returns the guarded page."""
  # Read by Gradio when it is imported.
  os.environ.update(
    GRADIO_ANALYTICS_ENABLED="False",
    GRADIO_RUN_HISTORY="False",
    GRADIO_TEMP_DIR=str(root / "gradio"),
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_OFFLINE="1",
  )
  import fastapi  # pyright: ignore[reportMissingImports] # Of an extra.
  import gradio as gr  # pyright: ignore[reportMissingImports]
  import safehttpx  # pyright: ignore[reportMissingImports]

  from dcgan_inpaint.web import page

  # A visitor may name a URL in place of a file, which Gradio would fetch.
  safehttpx.get = _fetch_nothing
  blocks = page.build(fill, root / "results", examples.write(root / "examples"))
  app = gr.mount_gradio_app(
    fastapi.FastAPI(openapi_url=None),
    blocks,
    path="/",
    allowed_paths=[str(root)],
    footer_links=[],
    max_file_size=untrusted.MAX_BYTES,
    ssr_mode=False,
    show_error=False,
    enable_monitoring=False,
    theme=page.theme(),
    css=page.CSS,
    head=page.HEAD,
  )
  return guard.Guard(
    app,
    token=token,
    hosts=("localhost", "127.0.0.1", "::1"),
    paths=(*_PATHS, f"/gradio_api/file={root}/"),
    max_bytes=untrusted.MAX_BYTES + _AROUND,
  )


async def _fetch_nothing(url: str, **unused: Any) -> Any:
  raise ValueError(f"nothing is fetched from {errors.printable(str(url))}")


def _run(app: guard.App, listening: socket.socket, root: pathlib.Path) -> None:
  """Serves until a signal comes."""
  import uvicorn  # pyright: ignore[reportMissingImports] # Of an extra.

  server = uvicorn.Server(
    uvicorn.Config(
      app,
      log_level="critical",
      access_log=False,
      ws="none",
      server_header=False,
      limit_concurrency=256,
      # A page that is open listens all the time.
      timeout_graceful_shutdown=1,
    )
  )
  ended = threading.Event()
  tidying = threading.Thread(target=_tidy, args=(root, ended), daemon=True)
  tidying.start()
  try:
    server.run(sockets=[listening])
  finally:
    ended.set()


@contextlib.contextmanager
def _ending() -> Iterator[None]:
  """Lets every signal that ends a process end a block as Ctrl-C does."""

  def interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)

  handlers: dict[str, Any] = {
    "SIGINT": interrupt,
    "SIGTERM": interrupt,
    # uvicorn takes only the others.
    "SIGHUP": lambda *_: signal.raise_signal(signal.SIGTERM),
  }
  previous = {}
  for name, handler in handlers.items():
    kind = getattr(signal, name, None)
    # What is ignored from the outset stays so, as SIGHUP under nohup.
    if kind and signal.getsignal(kind) is not signal.SIG_IGN:
      previous[kind] = signal.signal(kind, handler)
  try:
    yield
  finally:
    for kind, handler in previous.items():
      signal.signal(kind, handler)


def _tidy(root: pathlib.Path, ended: threading.Event) -> None:
  """Removes what visitors left an hour ago, until the page ends."""
  while not ended.wait(60):
    remove_old(root, time.time() - _KEPT, _MAX_KEPT)


def remove_old(root: pathlib.Path, moment: float, max_bytes: int) -> None:
  """Removes old files, and the oldest of too many; examples stay.

  Args:
    root: the folder that everything of the page is in.
    moment: files that were last changed before go; as `time.time` has it.
    max_bytes: the most that is left.
  """
  found = []
  for path in root.rglob("*"):
    with contextlib.suppress(OSError):
      if path.is_file() and not path.is_relative_to(root / "examples"):
        found.append((path.stat().st_mtime, path.stat().st_size, path))
  total = 0
  for changed, size, path in sorted(found, reverse=True):
    total += size
    if changed < moment or total > max_bytes:
      path.unlink(missing_ok=True)
