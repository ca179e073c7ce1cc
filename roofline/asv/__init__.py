"""The suites of airspeed velocity (asv): what is tracked from commit to commit, and its files."""
