#!yaml
# Defaults of role edge. Change them in the site's settings.yaml, not here.
edge:
  http_port: 80
  https_port: 443
  threads: null
  memory_share: 0.125
  max_connections: null
  connections_per_address: null
  new_connections_per_second: 200
  requests_per_second: 100
  requests_per_second_busy: 60
  requests_at_once: 64
  files_per_second: 1000
  files_at_once: 256
  bodies_at_once: 8
  refuse_seconds: 10
  unlimited_from: []
  header_seconds: 10
  body_seconds: 60
  answer_seconds: 3600
  silence_seconds: 30
  idle_seconds: 15
