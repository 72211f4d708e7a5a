"""What a run leaves: the record's schema, the measures, and comparisons."""
