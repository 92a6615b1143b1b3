{#- Debian's security updates come by themselves, in a window that no other host of the same role has. What they replaced
    is restarted in it; a host never is, it only says that it should be. #}
{%- set updates = pillar['base']['updates'] %}
{%- set restart = 'ExecStart=-/usr/sbin/needrestart -q -r a\n' if updates['restart'] else '' %}
{%- set due = salt['updates.reboot_due']() %}
{%- set window = pillar['wiring']['base']['window'] %}
{%- set spare_seconds = 240 %}
{#- Both say how long the window is: systemd reads the service anew when the timer's file has changed. #}
{%- set files = {
  '/etc/systemd/system/apt-daily-upgrade.service.d/saltern.conf':
    '# Written by Salt. At the end of the window it ends what it does, and goes on in the next one.\n'
    ~ '[Service]\nExecStart=\nExecStart=-/usr/bin/apt-get -q update\nExecStart=/usr/bin/unattended-upgrade\n'
    ~ restart ~ 'TimeoutStartSec=' ~ (updates['minutes'] * 60 - spare_seconds) ~ '\nTimeoutStopSec=' ~ spare_seconds ~ '\n',
  '/etc/systemd/system/apt-daily-upgrade.timer.d/saltern.conf':
    '# Written by Salt. A window of ' ~ updates['minutes'] ~ ' minutes' ~ (', with restarts' if restart else '')
    ~ '; one that was missed is not made good at another time.\n'
    ~ '[Timer]\nOnCalendar=\nOnCalendar=' ~ window ~ '\nRandomizedDelaySec=0\nAccuracySec=1s\nPersistent=false\n',
} %}

include:
  - base.packages

/etc/apt/apt.conf.d/99saltern:
  file.managed:
    - source: salt://base/files/apt.conf
    - user: root
    - group: root
    - mode: '0644'

/etc/needrestart/conf.d/saltern.conf:
  file.managed:
    - source: salt://base/files/needrestart.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

# For whoever runs Lynis here: of apt's two ways to write sources it reads the old one, and warns of all hosts with the new.
# That there are security updates is asked of apt itself (tests/hosts/test_base.py).
/etc/lynis/custom.prf:
  file.managed:
    - contents: debian-skip-security-repository=yes
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
{%- for path, contents in files.items() %}

{{ path }}:
  file.managed:
    - contents: {{ contents | json }}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - require:
      - pkg: base packages
{%- endfor %}

apt-daily-upgrade.timer:
  daemon.running:
    - watch:
      - file: /etc/systemd/system/apt-daily-upgrade.service.d/saltern.conf
      - file: /etc/systemd/system/apt-daily-upgrade.timer.d/saltern.conf

# Its work is done above, just before it is needed.
apt-daily.timer:
  daemon.dead:
    - require:
      - pkg: base packages
{%- if due %}

this host is to be rebooted:
  test.show_notification:
    - text: {{ (due ~ '; when it suits: systemctl reboot, or orch.maintenance with reboot: true') | json }}
{%- endif %}
