"""Results of runs: the record's schema, metrics, and comparisons."""
