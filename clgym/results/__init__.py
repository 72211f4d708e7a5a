"""Results of runs: the record's schema, metrics, the one reader of runs, and comparisons."""
