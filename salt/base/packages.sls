base packages:
  pkg.installed:
    - install_recommends: False
    - pkgs:
      - aide
      - ca-certificates
      - curl
      - debsums
      - needrestart
      - openssh-server
      - procps
      - sudo
      - tzdata
      - unattended-upgrades
