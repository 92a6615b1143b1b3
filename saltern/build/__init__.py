"""From a project's source and lock to signed wheels, made in a sandbox."""
