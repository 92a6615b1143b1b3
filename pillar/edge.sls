#!yaml
# Defaults of role edge. Change them in the site's settings.yaml, not here.
edge:
  http_port: 80
  https_port: 443
