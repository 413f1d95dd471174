"""Experiments: one file each, with the command that runs it.

`python -m dcgan_inpaint.main --config=NAME` runs one in any folder, and
`--config=NAME --help` explains its fields.
"""
