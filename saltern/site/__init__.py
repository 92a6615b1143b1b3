"""The site of a team, checked and turned into each host's pillar."""
