"""How far a completed image is from its original."""
