"""The declared ops, one file each."""
