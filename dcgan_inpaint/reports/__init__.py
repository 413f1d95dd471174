"""What a job leaves behind and shows."""
