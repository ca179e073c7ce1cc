"""Tests; the layer above all others."""
