include:
  - minion.config

/etc/systemd/system/salt-minion.service:
  file.managed:
    - source: salt://minion/files/salt-minion.service
    - user: root
    - group: root
    - mode: '0644'

# An apply that comes from the master runs inside this daemon: it restarts when the job has ended.
salt-minion.service:
  daemon.running:
    - after_job: True
    - inputs:
      - /etc/salt/minion
      - /etc/salt/minion.d/id.conf
      - /opt/saltern/salt/pyvenv.cfg
    - require:
      - file: /etc/salt/minion
    - watch:
      - file: /etc/salt/minion
      - file: /etc/salt/minion.d/id.conf
      - file: /etc/systemd/system/salt-minion.service
