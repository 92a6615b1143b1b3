#!yaml
# Defaults of role web. Change them in the site's settings.yaml, not here.
web:
  port: 8080
  body_max_mb: 10
  spool_mb: 4096
