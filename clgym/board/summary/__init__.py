"""Tables for a paper, and comparisons of several methods, from the records at hand."""
