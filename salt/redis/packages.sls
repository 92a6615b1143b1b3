redis-server:
  pkg.installed:
    - install_recommends: False
