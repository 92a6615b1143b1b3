include:
  - master.config

/etc/systemd/system/salt-master.service:
  file.managed:
    - source: salt://master/files/salt-master.service
    - user: root
    - group: root
    - mode: '0644'

# Its own restart must not lose the answer of the job that asks for it.
salt-master.service:
  daemon.running:
    - after_job: True
    - inputs:
      - /etc/salt/master
      - /usr/local/lib/saltern/guarded_master.py
      - /opt/saltern/salt/pyvenv.cfg
    - require:
      - file: /etc/salt/master
      - file: /usr/local/lib/saltern/guarded_master.py
      - file: /etc/salt/pki/master
      - file: /var/cache/salt/master
    - watch:
      - file: /etc/salt/master
      - file: /usr/local/lib/saltern/guarded_master.py
      - file: /etc/systemd/system/salt-master.service
