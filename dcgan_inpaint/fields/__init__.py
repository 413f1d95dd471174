"""The fields of every config: type, default, limits and a line on each.

A section is a class, and so is a job, whose sections and fields are all that it
takes. `config` makes `ml_collections.ConfigDict`s of them and checks their
values, and `command_line` prints them as help. A field of the type `X | None`
is open: what it stands for where it is None follows from another field. Names
of losses, methods, blending modes, detectors and convolutions are checked by
the modules that own them (`jobs.names`).
"""
