"""Processes, devices, files and errors: what any program needs."""
