{#- Redis: the apps' broker and their cache, two servers. #}
include:
  - redis.packages
  - redis.config
  - redis.service
