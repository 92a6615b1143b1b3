"""A host's files, processes and texts, handled safely by root."""
