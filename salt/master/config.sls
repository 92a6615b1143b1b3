include:
  - master.user

/etc/salt/master:
  file.managed:
    - source: salt://master/files/master.conf
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - context:
        listen: {{ pillar['wiring']['master']['listen'] | json }}
        repository: {{ pillar['master']['repository'] | json }}
        workers: {{ pillar['master']['workers'] }}
    - require:
      - user: user of the master

/usr/local/lib/saltern/guarded_master.py:
  file.managed:
    - source: salt://master/files/guarded_master.py
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - dir_mode: '0755'
