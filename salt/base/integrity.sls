{#- Once a week: are the files of packages what Debian shipped, and what else has changed since last time? #}
{%- set files = {
  '/etc/aide/aide.conf': 'aide.conf',
  '/etc/systemd/system/saltern-integrity.service': 'saltern-integrity.service',
  '/etc/systemd/system/saltern-integrity.timer': 'saltern-integrity.timer',
} %}

include:
  - base.packages
{%- for path, source in files.items() %}

{{ path }}:
  file.managed:
    - source: salt://base/files/{{ source }}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
    - require:
      - pkg: base packages
    - require_in:
      - daemon: saltern-integrity.timer
{%- endfor %}

# For hosts that have cron; Debian's own is never.
/etc/default/debsums:
  file.managed:
    - contents: |
        # Written by Salt as a whole (salt/base/integrity.sls).
        CRON_CHECK=weekly
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - pkg: base packages

saltern-integrity.timer:
  daemon.running:
    - watch:
      - file: /etc/systemd/system/saltern-integrity.timer
