#!yaml
# Defaults of role builder. Change them in the site's settings.yaml, not here.
builder:
  keep: 5
  port: 8843
