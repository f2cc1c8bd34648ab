"""Trains a small Mimi-architecture codec and a small Sopro from scratch; see docs/TRAINING.md.

python -m tools.train data|codec|evaluate [--work DIR] [--config FILE] [--set codec.steps=100 ...]
"""
