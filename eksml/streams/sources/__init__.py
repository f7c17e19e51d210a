"""Readers of sources: each reads the part of one task, from positions that checkpoints hold."""
