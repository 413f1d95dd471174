"""Training: the loop, what is trained, and what is saved."""
