"""The codec: codes <-> waveform. Knows nothing of the acoustic model."""
