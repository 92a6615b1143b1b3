#!yaml
# Defaults of role web. Change them in the site's settings.yaml, not here.
web:
  port: 8080
