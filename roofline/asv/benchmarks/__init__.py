"""Where asv looks for benchmarks."""
