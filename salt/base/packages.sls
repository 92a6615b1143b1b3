base packages:
  pkg.installed:
    - install_recommends: False
    - pkgs:
      - ca-certificates
      - curl
      - openssh-server
      - procps
      - sudo
      - tzdata
