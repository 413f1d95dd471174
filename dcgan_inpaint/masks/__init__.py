"""The holes: families, sets of them, and readers of a user's own."""
