"""Pixel errors, and realism measured on features."""
