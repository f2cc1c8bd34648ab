"""Published checkpoints -> one file that the engine maps into memory. Not needed to speak."""
