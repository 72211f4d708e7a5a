"""Figures of the board, of reports and of papers."""
