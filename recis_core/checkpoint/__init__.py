"""Checkpoints: safetensors and JSON, written aside and renamed last; what a crash leaves loads."""

from recis_core.checkpoint.layout import CheckpointError, Found, find, steps
from recis_core.checkpoint.loader import load, read_state
from recis_core.checkpoint.saver import save

__all__ = ["CheckpointError", "Found", "find", "load", "read_state", "save", "steps"]
