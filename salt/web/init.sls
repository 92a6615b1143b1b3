# Serves the apps: nginx for static files and as the proxy, gunicorn behind it, one set of units per app.
include:
  - web.nginx
  - web.apps
