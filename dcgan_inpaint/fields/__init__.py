"""The fields of every config: type, default, limits and an explanation.

A section is a class, and so is a job, which lists the sections and fields that
it takes. `config` builds `ml_collections.ConfigDict`s from them and checks
their values, and `command_line` prints them as help. A field of the type
`X | None` is open: where it is None, its value follows from another field.
Names of losses, methods, blending modes, detectors and convolutions are checked
by the modules that define them (`jobs.names`).
"""
