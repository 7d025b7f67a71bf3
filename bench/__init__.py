"""Measurements with their ratios: each figure is measured against the bare machine or a peer in the same run."""
