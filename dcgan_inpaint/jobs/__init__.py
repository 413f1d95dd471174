"""The jobs of the command line: each loads, builds, runs and reports."""
