"""Tables for a paper, and comparisons of several methods, made from records."""
