"""Releases get the traffic and lose it, on one host and over a fleet: everything else is below."""
