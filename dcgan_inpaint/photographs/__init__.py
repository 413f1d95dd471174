"""Faces in photographs of any size: finding, cropping and pasting them back."""
