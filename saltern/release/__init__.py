"""Releases of an app: their files, their units, their gate, and the way back."""
