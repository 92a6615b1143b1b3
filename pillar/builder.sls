#!yaml
# Defaults of role builder. Change them in the site's settings.yaml, not here.
builder:
  keep: 5
  port: 8843
  memory_max_mb: 2048
  disk_max_mb: 4096
  build_seconds: 3600
  source_max_mb: 512
  fetch_from: []
