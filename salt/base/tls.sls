{%- set tls = pillar['secrets']['tls'] %}

/etc/saltern/tls:
  file.directory:
    - user: root
    - group: root
    - mode: '0755'
    - makedirs: True

/etc/saltern/tls/ca.crt:
  file.managed:
    - contents: {{ tls['ca'] | json }}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: /etc/saltern/tls

/etc/saltern/tls/host.crt:
  file.managed:
    - contents: {{ tls['cert'] | json }}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: /etc/saltern/tls

/etc/saltern/tls/host.key:
  file.managed:
    - contents: {{ tls['key'] | json }}
    - user: root
    - group: root
    - mode: '0600'
    - show_changes: False
    - require:
      - file: /etc/saltern/tls
