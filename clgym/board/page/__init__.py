"""The board as one page: tables, figures, details and claims."""
