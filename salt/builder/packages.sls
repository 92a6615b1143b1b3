# git tells what belongs to a source; python3-venv gives the throw-away environment that pip runs in.
builder packages:
  pkg.installed:
    - pkgs: [git, python3-venv]
    - install_recommends: False
