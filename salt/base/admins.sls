{%- set admins = pillar['base']['admins'] %}

include:
  - base.packages

# An admin who is no longer in the site loses the keys here, and sudo below.
/etc/ssh/authorized_keys.d:
  file.directory:
    - user: root
    - group: root
    - mode: '0755'
    - clean: True
    {%- if admins %}
    - exclude_pat: {{ ('E@^(' ~ admins | sort | join('|') ~ ')$') | json }}
    {%- endif %}
    - require:
      - pkg: base packages

{%- for name, admin in admins | dictsort %}

{{ ('user ' ~ name) | json }}:
  user.present:
    - name: {{ name | json }}
    - shell: /bin/bash
    - usergroup: True
    - require:
      - pkg: base packages

{{ ('/etc/ssh/authorized_keys.d/' ~ name) | json }}:
  file.managed:
    - contents: {{ admin['ssh_keys'] | join('\n') | json }}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - file: /etc/ssh/authorized_keys.d
      - user: {{ ('user ' ~ name) | json }}
{%- endfor %}

/etc/sudoers.d:
  file.directory:
    - user: root
    - group: root
    - mode: '0750'
    - require:
      - pkg: base packages

# Without a password, because nobody has one.
/etc/sudoers.d/saltern:
  file.managed:
    - source: salt://base/files/sudoers
    - template: jinja
    - user: root
    - group: root
    - mode: '0440'
    - check_cmd: /usr/sbin/visudo -cf
    - context:
        admins: {{ admins | json }}
    - require:
      - pkg: base packages

# Nobody else gives cron or at work to do: an account of a service would have it done outside of its sandbox.
{%- for file in ['/etc/cron.allow', '/etc/at.allow'] %}
{{ file }}:
  file.managed:
    - contents: {{ (['root'] + admins | sort) | join('\n') | json }}
    - user: root
    - group: root
    - mode: '0644'
{%- endfor %}
