#!yaml
# Defaults of role master. Change them in the site's settings.yaml, not here.
master:
  repository: /srv/saltern
  workers: 5
