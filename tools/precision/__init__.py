"""Which layer bears which precision: a study (study.py), its parts one idea per file."""
