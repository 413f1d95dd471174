"""Faces in photographs of any size, and the way there and back."""
