#!yaml
# Defaults of role minion. Change them in the site's settings.yaml, not here.
minion:
  log_level: info
