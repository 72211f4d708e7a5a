"""What a run leaves: the record's schema, the measures, the one reader of runs, and comparisons."""
