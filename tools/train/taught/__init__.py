"""A voice learnt from a free neural teacher at 24 kHz, beside the stages that learn from flite; see docs/TRAINING.md.

texts -> teach -> taught-codebooks -> judge; the trainers of the parent package follow.
"""
