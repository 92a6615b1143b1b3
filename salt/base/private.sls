{%- set is_master = 'master' in pillar['host']['roles'] %}
{%- set salts = 'salt' if is_master else 'root' %}
{%- if is_master %}

include:
  - master.user
{%- endif %}

# What Salt knows of the site and of this host is for nobody else. A master reads it as its own user.
{%- for directory in ['/etc/salt', '/var/cache/salt'] %}
{{ directory }}:
  file.directory:
    - user: root
    - group: {{ salts }}
    - mode: '0750'
    - makedirs: True
    {%- if is_master %}
    - require:
      - user: user of the master
    {%- endif %}
{%- endfor %}
