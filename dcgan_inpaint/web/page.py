"""The layout of the page, in Gradio, and what its controls do."""

from collections.abc import Callable
import functools
import html
import pathlib
from typing import Any
import uuid

import gradio as gr  # pyright: ignore[reportMissingImports] # Of an extra.
from gradio import themes  # pyright: ignore[reportMissingImports]

from dcgan_inpaint.runtime import errors
from dcgan_inpaint.web import examples as examples_lib
from dcgan_inpaint.web import filling
from dcgan_inpaint.web import opening

QUEUE = 20  # Visitors who wait; more are told to come again.
_HEIGHT = 520  # Of the photograph, in pixels of the screen.
_TITLE = "Fill holes in photographs"
_MODES = {
  "fidelity": "fidelity: the likeliest",
  "realism": "realism: as sharp as a face",
  "paper": "paper: the plain search",
}
_INTRODUCTION = """
# Fill holes in photographs
Load a photograph, paint over what is to go, and fill it. Everything else stays
as it is, to the bit, at the photograph's own size. What fills a hole is
invented: it says nothing about how somebody looks.
"""
# An image in the clipboard is given to the control that takes files.
HEAD = """
<script>
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  const input = document.querySelector("#photograph input[type=file]");
  if (!files.length || !input) return;
  event.preventDefault();
  const given = new DataTransfer();
  given.items.add(files[0]);
  input.files = given.files;
  input.dispatchEvent(new Event("change", {bubbles: true}));
});
</script>
"""
_SHOW = (
  "() => document.querySelector('#work')?.scrollIntoView({block: 'nearest'})"
)
CSS = """
.gradio-container {max-width: 1160px !important; margin: auto}
#message {min-height: 1.6em}
#message .wrong {color: var(--error-text-color, #b91c1c); font-weight: 600}
#completions .grid-container {
  grid-template-columns: repeat(4, minmax(0, 1fr)) !important;
}
#completions .grid-wrap {max-height: none; min-height: 0; overflow: hidden}
#examples button {height: 36px}
footer {display: none !important}
"""

# Fills a hole; tells how far it is.
Fill = Callable[[filling.Request, filling.Progress], filling.Filled]


def build(
  fill: Fill, folder: pathlib.Path, examples: list[examples_lib.Example]
) -> gr.Blocks:
  """Returns the page.

  Args:
    fill: fills a hole, for one visitor at a time.
    folder: where results go, a folder each.
    examples: to try.
  """
  # Gradio's own would open the files in any of Pillow's formats. For the class,
  # since a visitor's editor is an instance that Gradio makes; and no class of
  # our own, beside which Gradio would write a file of types.
  gr.ImageEditor.preprocess = _layers  # pyright: ignore
  with gr.Blocks(title=_TITLE, analytics_enabled=False) as page:
    _Page(fill, folder, examples)
  page.queue(max_size=QUEUE, default_concurrency_limit=2, api_open=False)
  return page


def theme() -> gr.Theme:
  """Returns the colours and fonts of the page; none is fetched."""
  sans = ("system-ui", "sans-serif")
  return themes.Default(
    primary_hue="slate", font=sans, font_mono=("ui-monospace", "monospace")
  )


class _Page:
  """The controls, and what they do; nothing of a visitor is kept in it."""

  def __init__(
    self,
    fill: Fill,
    folder: pathlib.Path,
    examples: list[examples_lib.Example],
  ):
    self._fill, self._folder, self._examples = fill, folder, examples
    gr.Markdown(_INTRODUCTION)
    # Of each visitor: what is opened, and what it has become.
    self.photograph = gr.State(None)
    self.mask = gr.State(None)
    self.filled = gr.State(None)
    with gr.Row(equal_height=False):
      with gr.Column(scale=3, min_width=320):
        self._lay_out_input()
      with gr.Column(scale=2, min_width=300):
        self._lay_out_settings()
    self._connect()

  def _lay_out_input(self) -> None:
    """The photograph, on which the hole is painted, and its result."""
    self.file = gr.File(
      label="Photograph: choose, drop or paste a file",
      elem_id="photograph",
      height=136,
    )
    self.tries = []
    if self._examples:
      with gr.Row(elem_id="examples"):
        for one in self._examples:
          icon = str(one.photograph)
          self.tries.append(
            gr.Button(f"Try: {one.title}", icon=icon, size="sm")
          )
    with gr.Tabs(visible=False, elem_id="work") as self.tabs:
      with gr.Tab("Paint the hole", id="paint"):
        self.editor = gr.ImageEditor(
          show_label=False,
          elem_id="editor",
          height=_HEIGHT,
          sources=(),
          transforms=(),
          layers=False,
          format="png",
          brush=gr.Brush(
            colors=[f"#{bytes(opening.HOLE_COLOUR).hex()}"], color_mode="fixed"
          ),
          buttons=[],
        )
      with gr.Tab("Result", id="result"):
        self.slider = gr.ImageSlider(
          show_label=False,
          elem_id="slider",
          max_height=_HEIGHT,
          format="png",
          buttons=["fullscreen"],
          interactive=False,
        )
        self.gallery = gr.Gallery(
          label="Completions: choose one",
          elem_id="completions",
          columns=4,
          height="auto",
          object_fit="cover",
          allow_preview=False,
          interactive=False,
          buttons=[],
        )

  def _lay_out_settings(self) -> None:
    """How the hole is filled, and what is said about it."""
    self.mode = gr.Radio(
      [(title, mode) for mode, title in _MODES.items()],
      value=filling.default_mode(),
      label="Mode, in faces",
    )
    self.samples = gr.Slider(
      1,
      filling.MAX_SAMPLES,
      1,
      step=1,
      label="Completions to choose from",
      elem_id="samples",
      buttons=[],
    )
    self.alpha = gr.Checkbox(
      label="Transparent pixels are hole, too", visible=False, elem_id="alpha"
    )
    with gr.Accordion(
      "More: a mask from a file, a seed", open=False, elem_id="more"
    ):
      self.mask_file = gr.File(
        label="Mask: white is the hole", elem_id="mask", height=136
      )
      self.black = gr.Checkbox(label="Black is the hole", elem_id="black")
      self.seed = gr.Number(
        0, label="Seed: another draws other completions", precision=0, minimum=0
      )
    self.button = gr.Button("Fill the hole", variant="primary", elem_id="fill")
    self.message = gr.HTML(elem_id="message")
    with gr.Row():
      self.picture = gr.DownloadButton(
        "Save the picture", elem_id="picture", size="md", visible=False
      )
      self.hole = gr.DownloadButton(
        "Save the mask", elem_id="hole", size="md", visible=False
      )

  def _connect(self) -> None:
    opened = [
      self.file, self.photograph, self.mask, self.mask_file, self.alpha,
      self.editor, self.tabs, self.picture, self.hole, self.message,
    ]  # fmt: skip
    here: dict[str, Any] = {
      "api_visibility": "private",
      "show_progress": "minimal",
    }
    self.file.upload(self._open, self.file, opened, **here)
    for number, button in enumerate(self.tries):
      button.click(
        functools.partial(self._open_example, number), None, opened, **here
      )
    marked = [self.mask, self.mask_file, self.editor, self.message]
    given = [
      self.photograph, self.mask_file, self.black, self.alpha, self.editor,
    ]  # fmt: skip
    for change in (
      self.mask_file.upload,
      self.mask_file.clear,
      self.black.input,
      self.alpha.input,
    ):
      change(self._mark, given, marked, **here)
    done = self.button.click(
      self._fill_hole,
      [
        self.photograph, self.mask, self.alpha, self.editor, self.mode,
        self.samples, self.seed,
      ],
      [
        self.filled, self.tabs, self.slider, self.gallery,
        self.picture, self.hole, self.message,
      ],
      concurrency_limit=1,
      show_progress="full",
      show_progress_on=[self.message],
      api_visibility="private",
    )  # fmt: skip
    # On a narrow screen it is above the button.
    done.then(None, js=_SHOW)
    self.gallery.select(
      self._choose, self.filled, [self.slider, self.picture], **here
    )

  def _open(self, path: str) -> dict[Any, Any]:
    """Opens a photograph that a visitor has given."""
    try:
      return self._shown(opening.open_photograph(path))
    except errors.UserError as error:
      return {self.file: None, self.message: _wrong(error)}

  def _open_example(self, number: int) -> dict[Any, Any]:
    """Opens an example, with its mask."""
    example = self._examples[number]
    photograph = opening.open_photograph(example.photograph)
    return self._shown(photograph, opening.open_mask(example.mask, photograph))

  def _shown(
    self, photograph: opening.Photograph, mask: opening.Mask | None = None
  ) -> dict[Any, Any]:
    """Returns what the controls show of a photograph."""
    has_clear = photograph.clear is not None
    size = f"{photograph.width} x {photograph.height} pixels"
    return {
      self.file: None,
      self.photograph: photograph,
      self.mask: mask,
      self.mask_file: None,
      self.alpha: gr.update(value=has_clear, visible=has_clear),
      self.editor: _canvas(photograph, mask, has_clear, []),
      self.tabs: gr.update(visible=True, selected="paint"),
      self.picture: gr.update(visible=False),
      self.hole: gr.update(visible=False),
      self.message: _line(f"{photograph.name}, {size}"),
    }

  def _mark(
    self,
    photograph: opening.Photograph | None,
    path: str | None,
    black_is_hole: bool,
    alpha: bool,
    layers: list[str],
  ) -> dict[Any, Any]:
    """Shows the hole of a mask file and of transparent pixels."""
    try:
      photograph = _opened(photograph)
      mask = None
      if path:
        mask = opening.open_mask(path, photograph, black_is_hole=black_is_hole)
    except errors.UserError as error:
      return {self.mask_file: None, self.message: _wrong(error)}
    return {
      self.mask: mask,
      self.editor: _canvas(photograph, mask, alpha, layers),
      self.message: _line(mask.note if mask else ""),
    }

  def _fill_hole(
    self,
    photograph: opening.Photograph | None,
    mask: opening.Mask | None,
    alpha: bool,
    layers: list[str],
    mode: str,
    samples: float,
    seed: float,
    progress: gr.Progress = gr.Progress(),  # noqa: B008 # Gradio's own way.
  ) -> dict[Any, Any]:
    """Fills the hole."""
    try:
      photograph = _opened(photograph)
      hole = opening.Hole(
        opening.read_painted(layers),
        mask.path if mask else None,
        mask.polarity if mask else "white_is_hole",
        alpha and photograph.clear is not None,
      )
      request = filling.Request(
        photograph.path,
        hole,
        self._folder / uuid.uuid4().hex,
        mode,
        int(seed or 0),
        int(samples),
      )
      filled = self._fill(request, progress)
    except errors.UserError as error:
      return {self.message: _wrong(error)}
    several = len(filled.results) > 1
    return {
      self.filled: filled,
      self.tabs: gr.update(selected="result"),
      self.slider: (str(filled.before), str(filled.after[0])),
      self.gallery: gr.update(
        value=[str(path) for path in filled.near],
        visible=several,
        selected_index=0 if several else None,
      ),
      self.picture: gr.update(value=str(filled.results[0]), visible=True),
      self.hole: gr.update(value=str(filled.mask), visible=True),
      self.message: _line(_account(filled)),
    }

  def _choose(
    self, filled: filling.Filled, event: gr.SelectData
  ) -> tuple[tuple[str, str], str]:
    """Shows another of the completions."""
    chosen = filled.after[event.index], filled.results[event.index]
    return (str(filled.before), str(chosen[0])), str(chosen[1])


def _layers(editor: Any, payload: Any) -> list[str]:
  """Returns the files of what is painted in an editor."""
  del editor
  return [layer.path for layer in payload.layers if layer] if payload else []


def _canvas(
  photograph: opening.Photograph,
  mask: opening.Mask | None,
  alpha: bool,
  layers: list[str],
) -> dict[str, Any]:
  """Returns what the editor shows: the hole so far, and what is painted."""
  shown = opening.with_hole(
    photograph,
    mask.shown if mask else None,
    photograph.clear if alpha else None,
  )
  return {"background": shown, "layers": layers, "composite": shown}


def _opened(photograph: opening.Photograph | None) -> opening.Photograph:
  if photograph is None:
    raise errors.UserError("load a photograph first")
  return photograph


def _account(filled: filling.Filled) -> str:
  """Returns a line on what was filled."""
  if not filled.faces:
    return "Filled from its surroundings"
  faces = "a face" if filled.faces == 1 else f"{filled.faces} faces"
  return f"Filled, {faces} by the model"


def _line(text: str) -> str:
  return f"<p>{html.escape(errors.printable(text))}</p>"


def _wrong(error: errors.UserError) -> str:
  return f'<p class="wrong" role="alert">{html.escape(str(error))}</p>'
