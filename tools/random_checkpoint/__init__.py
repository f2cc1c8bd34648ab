"""Parts of `make_random_checkpoint.py`: what each file of a random checkpoint contains. NumPy only."""
