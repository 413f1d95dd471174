"""The latent search, and the trained model that it uses."""
