#!yaml
# Defaults of role redis. Change them in the site's settings.yaml, not here.
redis:
  port: 6379
  maxmemory_mb: 128
