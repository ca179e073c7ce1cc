"""Implementations for the kit to judge: wrong ones, and legal ones that differ."""
