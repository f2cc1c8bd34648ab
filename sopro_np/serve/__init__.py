"""Servers: one scheduler that steps one batch, and thin protocols over it."""
