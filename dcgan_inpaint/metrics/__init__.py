"""Errors of pixels, and realism by features."""
