# Builds the apps: the only role whose hosts ask a package index. Other hosts fetch the builds from here.
include:
  - builder.packages
  - builder.builds
{%- if pillar['wiring']['builder']['listen'] %}
  - web.nginx
{%- endif %}
