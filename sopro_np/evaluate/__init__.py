"""How good is it? Two questions, kept apart: is a model the same as another one (fidelity.py), does it speak well
(quality.py). Every measure is one small file; what is computed by a library of the extra `eval` says so."""
