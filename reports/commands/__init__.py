"""The sub-commands of `recis`, one file each; what is heavy they import when they run."""
