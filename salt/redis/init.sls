{#- Redis: the apps' cache, and later their broker. #}
include:
  - redis.packages
  - redis.config
  - redis.service
