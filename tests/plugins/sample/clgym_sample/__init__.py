"""Plugins for clgym from outside its repository."""
