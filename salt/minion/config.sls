/etc/salt/minion.d/id.conf:
  file.managed:
    - contents: {{ ('id: ' ~ pillar['host']['id']) | json }}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

/etc/salt/minion:
  file.managed:
    - source: salt://minion/files/minion.conf
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - context:
        master: {{ pillar['wiring']['minion']['master'] | json }}
        log_level: {{ pillar['minion']['log_level'] | json }}
    - require:
      - file: /etc/salt/minion.d/id.conf
