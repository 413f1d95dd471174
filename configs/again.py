r"""Repeats the run of a results.json, to the bit on the CPU.

  python -m dcgan_inpaint.main \
      --config=configs/again.py:runs/quickstart/results.json \
      --workdir=runs/quickstart_again

Needs the data and the checkpoint of that run, if it had any, and takes as long.
The job and every field of its config come from the file, also fields under
their former names, and may be changed as for any config. Use another workdir,
since a finished job has nothing left to do. A warning names different versions
or another commit. `data_digest` and `mask_digest` in the rows show whether the
images and the holes are the same (docs/reliability.md).

The file may be a stranger's: a loss of its own that it names
(`package.module:function`) is imported only where the command line names it
too.
"""

import sys

from dcgan_inpaint import command_line
from dcgan_inpaint import config as defaults
from dcgan_inpaint.reports import results
from dcgan_inpaint.runtime import errors


def get_config(path: str = "") -> defaults.ConfigDict:
  """Returns the config of the results.json, or of the workdir, at `path`."""
  if not path:
    raise errors.UserError(
      "name the results: --config=configs/again.py:runs/NAME/results.json"
    )
  earlier = results.read(path)
  results.warn_of_differences(earlier)
  config = defaults.of_results(earlier)
  defaults.refuse_code(config, command_line.given_fields(sys.argv))
  return config
