{#- A unit may log so many lines, so what a line is has a bound too: or one app pushes out everybody's within seconds. -#}
{#- What is logged as an emergency would be written to every terminal, as it is: whoever logs could steer a person's. #}
/etc/systemd/journald.conf.d/saltern.conf:
  file.managed:
    - contents: {{ '[Journal]\nStorage=persistent\nSystemMaxUse=%dM\nLineMax=16K\nForwardToWall=no\n' | format(pillar['base']['journal_max_mb']) | json }}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

systemd-journald.service:
  daemon.running:
    - inputs:
      - /etc/systemd/journald.conf.d/saltern.conf
    - watch:
      - file: /etc/systemd/journald.conf.d/saltern.conf
