#!yaml
# Defaults of role postgres. Change them in the site's settings.yaml, not here.
postgres:
  port: 5432
  memory_mb: null
  memory_share: 0.5
  session_memory_mb: null
  max_connections: null
  extra_roles: []
  settings: {}
