{%- set admins = pillar['base']['admins'] %}

include:
  - base.packages
  - base.admins
{%- set problem = '' if admins else salt['account.locked_out']() %}
{%- if problem %}

somebody can log in:
  test.fail_without_changes:
    - comment: {{ problem | json }}
    - order: first
    - failhard: True
{%- endif %}

# sshd keeps the first value that it reads, hence 00: cloud images bring files of their own. Its check wants /run/sshd,
# which is missing while sshd is not running.
/etc/ssh/sshd_config.d/00-saltern.conf:
  file.managed:
    - source: salt://base/files/sshd.conf
    - template: jinja
    - context:
        admins: {{ admins | json }}
    - user: root
    - group: root
    - mode: '0644'
    - check_cmd: sh -c 'install -d -m 0755 /run/sshd && /usr/sbin/sshd -t -f "$0"'
    - require:
      - pkg: base packages
      - file: /etc/ssh/authorized_keys.d

ssh.service:
  daemon.running:
    - inputs:
      - /etc/ssh/sshd_config
      - /etc/ssh/sshd_config.d
    - reload: True
    - watch:
      - file: /etc/ssh/sshd_config.d/00-saltern.conf
