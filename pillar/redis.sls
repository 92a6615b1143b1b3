#!yaml
# Defaults of role redis. Change them in the site's settings.yaml, not here.
redis:
  broker_port: 6380
  broker_maxmemory_mb: 128
  cache_port: 6381
  cache_maxmemory_mb: 128
  max_clients: 4096
