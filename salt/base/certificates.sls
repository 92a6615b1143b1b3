{#- The fleet's certificates last for 90 days and are renewed by themselves: saltern-certificates.timer, once a day. Where the
    site is it makes those anew whose time has come; on every host it brings the host's own into force. Nothing else. #}
{%- set renewal = pillar['wiring']['renewal'] %}

/etc/systemd/system/saltern-certificates.service:
  file.managed:
    - source: salt://base/files/saltern-certificates.service
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - context:
        site: {{ renewal['site'] | json }}

/etc/systemd/system/saltern-certificates-again.timer:
  file.managed:
    - source: salt://base/files/saltern-certificates-again.timer
    - user: root
    - group: root
    - mode: '0644'

/etc/systemd/system/saltern-certificates.timer:
  file.managed:
    - source: salt://base/files/saltern-certificates.timer
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: /etc/systemd/system/saltern-certificates.service
      - file: /etc/systemd/system/saltern-certificates-again.timer

saltern-certificates.timer:
  daemon.running:
    - require:
      - file: /etc/systemd/system/saltern-certificates.timer
    - watch:
      - file: /etc/systemd/system/saltern-certificates.service
      - file: /etc/systemd/system/saltern-certificates-again.timer
      - file: /etc/systemd/system/saltern-certificates.timer
{%- for notice in renewal['notices'] %}

notice {{ loop.index }} of certificates:
  test.show_notification:
    - name: {{ notice | json }}
    - text: {{ notice | json }}
{%- endfor %}
