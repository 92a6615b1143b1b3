{#- What a person or a program is given when it begins: umask, an end of idle shells, no core dumps, no odd drivers. Small
    files in folders that Debian reads, so that its own stay as they are; login.defs has no such folder. #}
{%- set idle = pillar['base']['idle_minutes'] %}
{%- set files = {
  '/etc/security/limits.d/60-saltern.conf': '# Written by Salt. Core dumps have the secrets of the memory in them.\n* hard core 0\nroot hard core 0\n',
  '/etc/systemd/coredump.conf.d/saltern.conf': '# Written by Salt.\n[Coredump]\nStorage=none\nProcessSizeMax=0\n',
  '/etc/systemd/system.conf.d/saltern.conf':
    '# Written by Salt. For services that are started after the next boot; see kernel.core_pattern too.\n'
    ~ '[Manager]\nDefaultLimitCORE=0\n',
  '/etc/profile.d/saltern.sh':
    '# Written by Salt. An idle shell ends; a program that runs in it does not.\n'
    ~ 'ulimit -c 0\nreadonly TMOUT=%d\nexport TMOUT\n' | format(idle * 60),
} %}

/etc/login.defs:
  file.managed:
    - source: salt://base/files/login.defs
    - user: root
    - group: root
    - mode: '0644'
{%- for path in ('/etc/issue', '/etc/issue.net') %}

{{ path }}:
  file.managed:
    - source: salt://base/files/issue
    - user: root
    - group: root
    - mode: '0644'
{%- endfor %}

/etc/modprobe.d/saltern.conf:
  file.managed:
    - source: salt://base/files/modprobe.conf
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
{%- endfor %}
