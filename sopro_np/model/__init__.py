"""The acoustic model: text and a voice in, codes out."""
