{%- set version = salt['pg.version']() %}

# Before the server, whose package would otherwise make a cluster of its own, without checksums.
/etc/postgresql-common/createcluster.d/saltern.conf:
  file.managed:
    - contents: create_main_cluster = false
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

postgresql-{{ version }}:
  pkg.installed:
    - install_recommends: False
    - require:
      - file: /etc/postgresql-common/createcluster.d/saltern.conf
