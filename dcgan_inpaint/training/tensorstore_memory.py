"""Keeps saves from losing memory: a workaround for a leak of TensorStore.

Up to version 0.1.86 at least, TensorStore never releases the keys and values of
a dictionary that it returns as JSON: `JsonToPyObject` of its file
python/tensorstore/json_type_caster.cc hands references of its own to
`PyDict_SetItem`, which takes references itself. Orbax asks for such
dictionaries with every array that it saves, and for statistics of its own log,
so a save would lose about 25 kB for 30 arrays; docs/reliability.md has the
figures and a small example. Where Orbax or TensorStore have changed, nothing is
done.
"""

import copy
import functools
from typing import Any

from orbax.checkpoint._src.serialization import tensorstore_utils
import tensorstore as ts


def keep() -> None:
  """Makes Orbax ask TensorStore once a save, for this process."""
  module: Any = tensorstore_utils
  if getattr(module, "ts", None) is ts:
    module.ts = _Like(
      ts,
      KvStore=_Like(ts.KvStore, Spec=_Spec, open=_open),
      # What Orbax logs of the bytes that were written; we show none of it.
      experimental_collect_matching_metrics=lambda *unused: [],
    )


class _Like:
  """A module or class with some attributes of its own."""

  def __init__(self, original: Any, **attributes: Any):
    self._original = original
    vars(self).update(attributes)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._original, name)


class _Spec:
  """In the place of `ts.KvStore.Spec`."""

  def __init__(self, json: Any):
    self._json = json
    self.original = ts.KvStore.Spec(json)

  def to_json(self) -> Any:
    if isinstance(self._json, dict) and self._json.keys() == {"driver", "path"}:
      return copy.deepcopy(_to_json(self._json["driver"], self._json["path"]))
    return self.original.to_json()


# The arrays of one save lie in one folder.
@functools.lru_cache(maxsize=4)
def _to_json(driver: str, path: str) -> Any:
  return ts.KvStore.Spec({"driver": driver, "path": path}).to_json()


def _open(spec: Any, *arguments: Any, **options: Any) -> Any:
  """In the place of `ts.KvStore.open`."""
  if isinstance(spec, _Spec):
    spec = spec.original
  return ts.KvStore.open(spec, *arguments, **options)
