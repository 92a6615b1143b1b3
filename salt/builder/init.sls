# Builds the apps: the only role whose hosts ask a package index.
include:
  - builder.packages
  - builder.builds
