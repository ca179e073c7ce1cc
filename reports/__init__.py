"""Results as data, and the `recis` command."""
