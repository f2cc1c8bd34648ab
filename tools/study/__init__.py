"""Which layer bears which precision: the parts of tools/sensitivity.py, one idea per file."""
