#!yaml
# Defaults of role worker. Change them in the site's settings.yaml, not here.
worker:
  start_seconds: 3
  stop_seconds: 60
