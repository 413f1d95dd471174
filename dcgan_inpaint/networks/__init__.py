"""The networks, their convolutions and their losses."""
